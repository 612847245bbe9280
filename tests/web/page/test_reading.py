"""What a reader takes from the page at first sight: whose numbers they are, which colour is what, which day is which."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.serving import Serving
from tests.web.page.conftest import Call, Counted, OpenLook
from usage_middleware import KeyInfo, Usage

pytestmark = pytest.mark.slow

COUNTED = Counted()


def test_a_key_is_told_from_its_organisation(look: OpenLook) -> None:
    """Its calls are not those of all keys, so the heading names it."""
    seen = look("acme:key_2")
    page = seen.open()
    assert page.locator("h1").inner_text() == "Acme 2"
    assert page.locator(".crumbs li").all_inner_texts() == ["acme", "Acme 2"]
    assert page.locator(".crumbs a").count() == 0
    assert page.title() == "Acme 2 · Usage"


def test_the_bars_name_keys_as_the_table_does(look: OpenLook) -> None:
    seen = look()
    page = seen.open("?group=key")
    assert [text.split("\n")[0] for text in page.locator("#usage .legend li").all_inner_texts()] == ["Acme 1", "Acme 2"]
    page.locator("#usage .legend a").first.click()
    page.wait_for_url(re.compile("key=key_1"))


def test_every_status_has_a_colour_and_keeps_it(look: OpenLook, apart: str, apart_usage: Usage) -> None:
    apart_usage.keys.put("colours", KeyInfo(id="key_6", name="Colours"))
    at = datetime.now(UTC) - timedelta(days=1)
    for calls, status in enumerate((503, 422, 404, 201, 200), start=1):
        row = {"org": "colours", "id": str(status), "at": at, "key": "key_6", "endpoint": "GET /", "status": status}
        apart_usage.backfill([{**row, "calls": calls, "latency_ms": 1}])
    seen = look("colours", base=apart)
    page = seen.open("?group=status")
    shown = "all => all.map((one) => [one.textContent.match(/^[0-9]{3}/)[0], one.querySelector('.swatch').style.cssText])"
    bars = dict(page.locator("#usage .legend li").evaluate_all(shown))
    failures = dict(page.locator("#failures .legend li").evaluate_all(shown))
    assert set(bars) == {"200", "201", "404", "422", "503"}
    assert len(set(bars.values())) == 5
    assert failures == {status: color for status, color in bars.items() if status >= "4"}


def test_one_error_is_one(look: OpenLook, apart: str, apart_usage: Usage) -> None:
    apart_usage.keys.put("single", KeyInfo(id="key_4", name="Single"))
    row = {"org": "single", "id": "1", "at": datetime.now(UTC) - timedelta(days=1), "key": "key_4", "endpoint": "GET /"}
    apart_usage.backfill([{**row, "status": 404, "calls": 1, "latency_ms": 1}])
    seen = look("single", base=apart)
    seen.open()
    assert "1 of 1" in seen.text("#headline")
    assert "1 errors" not in seen.text("main")


def test_a_table_has_no_line_for_the_period_before(look: OpenLook) -> None:
    seen = look()
    assert seen.open().locator("#usage .dashes").count() == 1
    assert seen.open("?table=1").locator("#usage .dashes").count() == 0


def test_a_search_that_finds_nothing_says_so(look: OpenLook) -> None:
    seen = look()
    seen.open("?q=nothing+like+that")
    assert "Nothing is named like that." in seen.text("#keys")
    operator = look("operator")
    operator.open("?q=nothing+like+that")
    assert "Nothing is named like that." in operator.text("#orgs")


@pytest.mark.parametrize(("zone", "edge"), [("Europe/Berlin", "22:00"), ("America/New_York", "04:00"), ("UTC", "00:00")])
def test_the_days_of_a_zoom_are_those_of_the_zone(look: OpenLook, zone: str, edge: str) -> None:
    """In summer: a day begins at the `edge` of UTC, in Berlin on the day before."""
    seen = look(timezone_id=zone)
    first, after = ("2026-07-05", "2026-07-08") if edge == "22:00" else ("2026-07-06", "2026-07-09")
    page = seen.open(f"?start={first}T{edge}:00.000Z&end={after}T{edge}:00.000Z")
    page.select_option("#period", "dates")
    page.wait_for_selector("dialog")
    assert (page.input_value("#date-start"), page.input_value("#date-end")) == ("2026-07-06", "2026-07-08")


def test_days_that_can_not_be_are_not_asked_for(look: OpenLook) -> None:
    seen = look()
    page = seen.open()
    page.select_option("#period", "dates")
    today = datetime.now(UTC).date()
    assert page.locator("#date-end").get_attribute("max") in {str(today), str(today + timedelta(days=1))}
    page.fill("#date-start", str(today - timedelta(days=3)))
    page.fill("#date-end", str(today - timedelta(days=5)))
    page.click("dialog .primary")
    assert page.locator("#date-end").evaluate("one => one.validity.rangeUnderflow")
    assert page.locator("dialog").is_visible()
    assert "start=" not in page.url


@pytest.mark.parametrize("query", ["?start=yesterday", "?start=2026-11-20&end=soon"])
def test_an_address_that_was_cut_off(look: OpenLook, query: str) -> None:
    """Only the server's refusal is in the console: nothing fails on the page."""
    seen = look()
    seen.open(query, state="error")
    assert "must be a time like" in seen.text(".notice")
    assert seen.said
    assert all("400" in said for said in seen.said)
    seen.said.clear()


def test_no_id_is_there_twice(look: OpenLook) -> None:
    ids = look().open().locator("[id]").evaluate_all("all => all.map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_long_times_are_seconds(call: Call) -> None:
    times = {0.412: "0.412 ms", 277: "277 ms", 999.4: "999 ms", 999.9: "1 s", 1250: "1.25 s", 92_810.9: "92.8 s"}
    assert {value: call("milliseconds", value) for value in times} == times


def test_the_form_is_ready_to_be_typed_into(look: OpenLook, site: Serving) -> None:
    seen = look(None, base=f"http://127.0.0.1:{site.port}/people")
    page = seen.open(state="signed-out")
    page.keyboard.type("sk_acme_1")
    page.keyboard.press("Enter")
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme")
    seen.said.clear()
