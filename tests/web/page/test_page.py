"""The page in a browser: its panels against numbers that the test counted, and what can be done with it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.serving import Serving
from tests.support import ServerProcess
from tests.web.page.conftest import Counted, OpenLook, number
from usage_middleware import KeyInfo, Usage

pytestmark = pytest.mark.slow

COUNTED = Counted()


def test_the_panels_of_a_customer(look: OpenLook) -> None:
    seen = look()
    page = seen.open()
    total = COUNTED.calls(org="acme")
    assert seen.total == total
    keys, endpoints = seen.rows("keys"), seen.rows("endpoints")
    for number_, name in ((1, "Acme 1"), (2, "Acme 2")):
        assert number(keys[name][0]) == COUNTED.calls(org="acme", key=f"key_{number_}")
    assert keys["Never used"][0] == "0"
    assert keys["Never used"][-1] == "never"
    for name in ("items", "places"):
        assert number(endpoints[f"GET /v1/{name}"][0]) == COUNTED.calls(org="acme", endpoint=f"GET /v1/{name}")
    assert number(keys["Total"][0]) == number(endpoints["Total"][0]) == total
    failed = {status: COUNTED.calls(org="acme", status=status) for status in (404, 503)}
    legend = page.locator("#failures .legend li").all_inner_texts()
    assert [number(text.split("\n")[-1]) for text in legend] == sorted(failed.values(), reverse=True)
    assert f"{sum(failed.values())} of {total}" in seen.text("#headline").replace(",", "")
    assert page.locator("#speed .legend li").all_inner_texts()[0].startswith("p50")
    assert "Times in UTC" in seen.text(".page-footer")


def test_the_bars_come_before_the_rest(look: OpenLook) -> None:
    seen = look()
    held: list[Any] = []
    seen.page.route("**/by-key?*", lambda route: held.append(route))
    seen.page.goto(f"{seen.base}/dashboard")
    seen.page.wait_for_selector("#calls svg")
    assert seen.page.locator("main").get_attribute("data-state") == "loading"
    assert seen.total == COUNTED.calls(org="acme")
    held[0].continue_()
    seen.wait()
    assert number(seen.rows("keys")["Total"][0]) == seen.total


def test_the_page_of_an_operator_and_the_way_down(look: OpenLook) -> None:
    seen = look("operator")
    page = seen.open()
    assert seen.total == COUNTED.calls()
    orgs = seen.rows("orgs")
    assert {name: number(cells[0]) for name, cells in orgs.items()} == {
        "acme": COUNTED.calls(org="acme"),
        "globex": COUNTED.calls(org="globex"),
        "Total": COUNTED.calls(),
    }
    assert "OK" in seen.text("#workers") or "Warning" in seen.text("#workers")
    page.get_by_role("link", name="globex").last.click()
    page.get_by_role("heading", name="globex", level=1).wait_for()
    seen.wait()
    assert seen.total == COUNTED.calls(org="globex")
    page.locator("#keys").get_by_role("link", name="Globex").click()
    page.get_by_role("heading", name="Globex", level=1).wait_for()
    seen.wait()
    assert seen.total == COUNTED.calls(org="globex", key="key_9")
    page.go_back()
    page.get_by_role("heading", name="globex", level=1).wait_for()
    page.go_back()
    page.wait_for_selector("#orgs")
    seen.wait()
    assert seen.total == COUNTED.calls()


@pytest.mark.parametrize(("period", "days"), [("30d", 30), ("7d", 7), ("90d", 90)])
def test_the_change_of_each_organisation(look: OpenLook, period: str, days: int) -> None:
    seen = look("operator")
    page = seen.open(f"?timezone=UTC&period={period}")
    assert page.locator("#orgs thead th").nth(5).inner_text() == "Change"
    told = {name: cells[4].split("\n")[0] for name, cells in seen.rows("orgs").items() if name != "Total"}
    for org in ("acme", "globex"):
        now = COUNTED.calls(org=org, within=days)
        before = COUNTED.calls(org=org, within=2 * days + 1) - now
        assert told[org] == (f"{100 * (now - before) / before:+g}%" if before else "from 0")
    page.select_option("#compare", "none")
    page.wait_for_url("**compare=none**")
    seen.wait()
    assert "Change" not in page.locator("#orgs thead").inner_text()


def test_an_endpoint_and_its_keys(look: OpenLook) -> None:
    seen = look()
    page = seen.open()
    page.locator("#endpoints").get_by_role("link", name="GET /v1/items").click()
    page.get_by_role("heading", name="GET /v1/items", level=1).wait_for()
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme", endpoint="GET /v1/items")
    assert number(seen.rows("keys")["key_2"][0]) == COUNTED.calls(org="acme", endpoint="GET /v1/items", key="key_2")
    page.reload()
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme", endpoint="GET /v1/items")


def test_a_key_sees_itself_alone(look: OpenLook) -> None:
    seen = look("acme:key_2")
    page = seen.open()
    assert seen.total == COUNTED.calls(org="acme", key="key_2")
    assert "Acme 1" not in page.content()
    assert "key_1" not in page.content()


def test_two_tenants_see_their_own(look: OpenLook) -> None:
    acme, globex = look("acme"), look("globex")
    acme.open()
    globex.open()
    assert (acme.total, globex.total) == (COUNTED.calls(org="acme"), COUNTED.calls(org="globex"))
    globex.open("?org=acme", state="error")
    assert "There is no such organisation" in globex.text(".notice")
    globex.said.clear()


def test_the_table_has_the_numbers_of_the_bars(look: OpenLook) -> None:
    seen = look()
    page = seen.open()
    page.click("#as-table")
    page.wait_for_selector("#usage table")
    cells = page.locator("#usage tbody tr td:last-child").all_inner_texts()
    assert sum(number(cell) for cell in cells) == seen.total == number(seen.rows("usage")["Total"][-1])


def test_zoom_by_dragging_and_back(look: OpenLook) -> None:
    seen = look()
    page = seen.open("?period=7d")
    box = page.locator("#calls .plot").bounding_box()
    assert box
    y = box["y"] + 90
    page.mouse.move(box["x"] + 60, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 10, y, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("start="))
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme", within=7)
    assert page.locator("#period").input_value() == "custom"
    page.go_back()
    page.wait_for_url(re.compile("period=7d"))
    seen.wait()
    assert page.locator("#period").input_value() == "7d"


def test_the_keyboard_alone(look: OpenLook) -> None:
    seen = look()
    page = seen.open("?period=7d")
    page.focus("#calls-plot")
    spoken = page.locator("#calls [role=status]")
    page.keyboard.press("ArrowLeft")
    day_before = spoken.inner_text()
    assert f"{COUNTED.calls(org='acme', within=1)}" in day_before
    page.keyboard.press("Home")
    assert spoken.inner_text() != day_before
    page.keyboard.press("End")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowLeft")
    assert "\u2013" in spoken.inner_text()
    page.keyboard.press("Escape")
    assert "\u2013" not in spoken.inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("start=.*end="))
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme", within=3) - COUNTED.calls(org="acme", within=2)


def test_search_keeps_the_focus_and_the_totals(look: OpenLook) -> None:
    seen = look()
    page = seen.open()
    page.focus("#q")
    page.keyboard.type("acme 2", delay=5)
    page.wait_for_url(re.compile("q=acme"))
    page.wait_for_selector("#keys tbody tr:nth-child(2)", state="detached")
    seen.wait()
    assert page.locator("#q").evaluate("field => field === document.activeElement && field.value") == "acme 2"
    rows = seen.rows("keys")
    assert list(rows) == ["Acme 2", "2 more", "Total"]
    assert number(rows["Total"][0]) == seen.total


def test_other_zones_and_periods_are_in_the_address(look: OpenLook) -> None:
    seen = look()
    page = seen.open()
    page.focus("#zone")
    page.select_option("#zone", "America/New_York")
    page.wait_for_url(re.compile("timezone=America"))
    seen.wait()
    assert "Times in America/New_York" in seen.text(".page-footer")
    page.select_option("#period", "90d")
    page.wait_for_url(re.compile("period=90d"))
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme", within=90)
    page.select_option("#group", "status")
    page.wait_for_url(re.compile("group=status"))
    seen.wait()
    assert page.locator("#usage .legend li").first.inner_text().startswith("200")
    link = page.url
    again = look()
    again.page.goto(link)
    again.wait()
    assert again.total == seen.total


def test_a_module_that_can_not_be_loaded(look: OpenLook) -> None:
    """As where the server got other ones while a page was open: it is loaded again."""
    seen = look("operator")
    seen.page.route("**/operator.js", lambda route: route.abort())
    seen.open(state="error")
    assert "The server does not answer." in seen.text(".notice")
    seen.page.unroute("**/operator.js")
    seen.page.click("#retry")
    seen.page.wait_for_selector("#orgs")
    seen.said.clear()


def test_a_zone_that_cannot_be_told_apart_becomes_utc(look: OpenLook) -> None:
    seen = look(timezone_id="Asia/Kathmandu")
    page = seen.open()
    assert "timezone=UTC" in page.url
    assert seen.total == COUNTED.calls(org="acme")
    seen.said.clear()


def test_csv_and_curl_ask_the_same_question(look: OpenLook, site: Serving) -> None:
    seen = look(permissions=["clipboard-read", "clipboard-write"])
    page = seen.open()
    with page.expect_download() as download:
        page.click("text=CSV")
    lines = download.value.path().read_text().splitlines()
    assert sum(int(line.rpartition(",")[2]) for line in lines[1:]) == seen.total
    page.click("#curl")
    copied = page.evaluate_handle("navigator.clipboard.readText()").json_value()
    assert copied.startswith('curl -H "x-api-key: $API_KEY" \'http://127.0.0.1:')
    assert "/usage/series?period=30d" in copied


def test_a_minute_later_it_shows_what_came_and_keeps_the_focus(look: OpenLook, apart: str, apart_usage: Usage) -> None:
    apart_usage.keys.put("fresh", KeyInfo(id="key_5", name="Fresh"), secret="sk_fresh")
    seen = look("fresh", base=apart, own=True)
    seen.page.clock.install()
    page = seen.open("?period=24h")
    assert "Not used yet" in seen.text("#usage")
    assert seen.total == 0
    row = {"org": "fresh", "id": "1", "at": datetime.now(UTC) - timedelta(hours=1), "key": "key_5", "endpoint": "GET /v1/items"}
    apart_usage.backfill([{**row, "status": 200, "calls": 3, "latency_ms": 1}])
    page.set_viewport_size({"width": 900, "height": 300})
    page.focus("#as-table")
    page.locator("html").evaluate("() => window.scrollTo(0, 120)")
    page.clock.fast_forward(61_000)
    page.wait_for_selector("#total[data-value='3']")
    assert page.locator("#as-table").evaluate("one => one === document.activeElement")
    assert page.locator("html").evaluate("() => window.scrollY") == 120


def test_it_asks_nothing_while_it_is_hidden(look: OpenLook) -> None:
    seen = look(own=True)
    seen.page.clock.install()
    page = seen.open()
    hide = "hidden => Object.defineProperty(Document.prototype, 'hidden', { get: () => hidden, configurable: true })"
    tell = "() => document.dispatchEvent(new Event('visibilitychange'))"
    page.locator("html").evaluate(f"(_, hidden) => ({hide})(hidden)", True)
    page.locator("html").evaluate(tell)
    asked = len(seen.asked)
    page.clock.fast_forward(300_000)
    assert len(seen.asked) == asked
    page.locator("html").evaluate(f"(_, hidden) => ({hide})(hidden)", False)
    with page.expect_request("**/series?*"):
        page.locator("html").evaluate(tell)
    seen.wait()


def test_what_is_not_kept_any_more(look: OpenLook) -> None:
    seen = look()
    page = seen.open("?start=2020-01-01&end=2020-02-01", state="error")
    assert "kept" in seen.text(".notice")
    assert page.get_by_role("heading", name="acme", level=1).is_visible()
    page.select_option("#period", "7d")
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme", within=7)
    seen.said.clear()


def test_a_key_that_was_never_used(look: OpenLook) -> None:
    seen = look()
    page = seen.open("?key=key_3")
    assert "Last used: never" in seen.text(".about")
    assert 'curl -H "x-api-key: $API_KEY"' in seen.text("#usage code")
    assert "No calls in this time." in seen.text("#speed")
    assert page.locator(".dashes, usage-plot").count() == 0


def test_no_key_yet(look: OpenLook) -> None:
    seen = look("nobody")
    seen.open()
    assert "There is no API key yet" in seen.text("#usage")


def test_signed_out(look: OpenLook) -> None:
    seen = look(None)
    seen.open(state="signed-out")
    assert "You are not signed in here" in seen.text("main")
    assert "API key" not in seen.text("main")
    german = look(None, locale="de-DE")
    german.open(state="signed-out")
    assert "nicht mehr angemeldet" in german.text("main")
    german.said.clear()
    seen.said.clear()


def test_redis_away_and_back(look: OpenLook, page_server: ServerProcess) -> None:
    seen = look()
    page = seen.open()
    total = seen.total
    page_server.pause()
    try:
        page.select_option("#compare", "none")
        seen.wait("error")
        assert "Usage can't be read just now" in seen.text(".notice")
    finally:
        page_server.resume()
    page.click("#retry")
    seen.wait()
    assert seen.total == total
    seen.said.clear()


@pytest.mark.parametrize("more", ["", "&start=2026-01-01"])
def test_a_refused_question_in_the_words_of_the_api(look: OpenLook, more: str) -> None:
    seen = look()
    seen.open(f"?timezone=Nowhere/Land{more}", state="error")
    assert "Invalid timezone: Nowhere/Land" in seen.text(".notice")
    seen.said.clear()
