"""The page for everybody: axe, keyboards, small screens, both themes and languages, print; and hostile names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.web.page.conftest import Counted, OpenLook
from usage_middleware import KeyInfo, Usage

pytestmark = pytest.mark.slow

COUNTED = Counted()
SCREENS = {
    "customer": ("acme", "", "ready"),
    "table": ("acme", "?table=1", "ready"),
    "key": ("acme", "?key=key_1", "ready"),
    "endpoint": ("acme", "?endpoint=GET+/v1/items", "ready"),
    "operator": ("operator", "", "ready"),
    "empty": ("nobody", "", "ready"),
    "refused": ("acme", "?timezone=x", "error"),
    "signed out": (None, "", "signed-out"),
}
#: What WCAG 2.2 AA asks for, as axe tells its rules.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


#: What the other theme may change.
CONTRAST = {"runOnly": ["color-contrast"]}


def violations(page: Any, rules: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options=rules).response["violations"]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(look: OpenLook, theme: str) -> None:
    for who, query, state in SCREENS.values():
        # The tool puts its own script into the page, which our policy forbids.
        seen = look(who, color_scheme=theme, bypass_csp=True)
        rules = RULES if theme == "light" else CONTRAST
        assert violations(seen.open(query, state), rules) == [], query
        seen.said.clear()
        seen.context.close()


@pytest.mark.parametrize(("width", "size"), [(320, "100%"), (640, "200%")])
def test_nothing_scrolls_sideways(look: OpenLook, width: int, size: str) -> None:
    for who, query in (("acme", ""), ("acme", "?key=key_1"), ("operator", "?lang=de")):
        seen = look(who, viewport={"width": width, "height": 700})
        page = seen.open(query)
        page.locator("html").evaluate(f"root => root.style.setProperty('font-size', '{size}')")
        page.locator("html").evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
        assert page.locator("html").evaluate("root => root.scrollWidth - root.clientWidth") == 0
        seen.context.close()


def test_targets_are_large_enough(look: OpenLook) -> None:
    page = look().open()
    heights = "all => all.map(one => one.getBoundingClientRect().height)"
    assert min(page.locator("button, select, input, .tool, .legend a, tbody a").evaluate_all(heights)) >= 24


def test_german(look: OpenLook) -> None:
    seen = look(locale="de-DE")
    page = seen.open()
    assert page.locator("html").get_attribute("lang") == "de"
    assert "Aufrufe" in seen.text("#headline")
    assert "Zeiten in UTC" in seen.text(".page-footer")
    assert page.title() == "acme · Nutzung"


def test_every_control_has_a_name_and_the_chart_is_one_stop(look: OpenLook) -> None:
    page = look().open()
    stops: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = "one => one.id || one.textContent.trim().slice(0, 30)"
        stop = page.locator(":focus").evaluate_all(f"all => all.map({name})")
        if not stop or stop[0] in stops[:1]:
            break
        stops += stop
    assert stops.count("calls-plot") == 1
    assert [one for one in stops if one in ("period", "compare", "zone", "group", "as-table", "curl", "q")] == [
        "period", "compare", "zone", "group", "as-table", "curl", "q",
    ]  # fmt: skip


def test_print_and_less_motion(look: OpenLook) -> None:
    seen = look(reduced_motion="reduce", color_scheme="dark")
    page = seen.open()
    assert page.locator(".page").evaluate("one => getComputedStyle(one).transitionDuration") in ("0s", "0.15s")
    page.emulate_media(media="print")
    assert not page.locator(".choices").is_visible()
    assert page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#calls svg").is_visible()


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202eevil",
    "a" * 10_000,
    "${alert(1)}",
    "javascript:alert(1)",
)


def test_hostile_names_stay_text(look: OpenLook, apart: str, apart_usage: Usage) -> None:
    at = datetime.now(UTC) - timedelta(days=1)
    for number, name in enumerate(HOSTILE):
        apart_usage.keys.put("hostile", KeyInfo(id=f"key_{number}", name=name))
    apart_usage.backfill(
        {"org": "hostile", "id": str(number), "at": at, "key": f"key_{number}", "endpoint": f"GET /{name[:300]}", "status": 200,
         "calls": number + 1, "latency_ms": 1, "tags": {"project": name}}
        for number, name in enumerate(HOSTILE)
    )  # fmt: skip
    seen = look("hostile", base=apart, viewport={"width": 320, "height": 700})
    for group in ("endpoint", "key", "project"):
        page = seen.open(f"?group={group}")
        assert page.locator("main img, main script").count() == 0
        assert page.locator("html").evaluate("root => root.scrollWidth - root.clientWidth") == 0
    names = seen.page.locator("#keys tbody th").all_inner_texts()
    assert "<script>alert(1)</script>" in names
    assert seen.total == sum(range(1, len(HOSTILE) + 1))


def test_many_keys_come_in_pages(look: OpenLook, site_usage: Usage) -> None:
    for number in range(120):
        site_usage.keys.put("many", KeyInfo(id=f"key_{number:03}", name=f"Key {number:03}"))
    seen = look("many")
    page = seen.open("?period=24h")
    listed: list[str] = page.locator("#keys tbody th").all_inner_texts()
    assert len(listed) == 20
    for first in (21, 41):
        page.click("#page-next")
        page.get_by_text(f"{first}\u2013{first + 19} of 120").wait_for()
        listed += page.locator("#keys tbody th").all_inner_texts()
    assert len(set(listed)) == 60
