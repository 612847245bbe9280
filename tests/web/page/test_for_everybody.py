"""The page for everybody: axe, keyboards, small screens, both themes and languages, print; and hostile names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.serving import Serving
from tests.web.page.conftest import Counted, OpenLook
from usage_middleware import KeyInfo, Usage

pytestmark = pytest.mark.slow

COUNTED = Counted()
#: Who looks, at which mount, with which address, and what state the page is in then.
SCREENS = {
    "customer": ("acme", "paid/usage", "", "ready"),
    "table": ("acme", "paid/usage", "?table=1", "ready"),
    "key": ("odd", "paid/usage", "?key=key_7", "ready"),
    "endpoint": ("acme", "paid/usage", "?endpoint=GET+/v1/items", "ready"),
    "operator": ("operator", "paid/usage", "?lang=de", "ready"),
    "operator apart": ("operator", "apart/usage", "", "ready"),
    "empty": ("nobody", "usage", "", "ready"),
    "refused": ("acme", "usage", "?timezone=x", "error"),
    "signed out": (None, "people", "", "signed-out"),
}
#: What WCAG 2.2 AA asks for, as axe tells its rules.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
#: What another theme may change.
CONTRAST = {"runOnly": ["color-contrast"]}
#: Its report is of violations alone, and what it could load in advance is there already.
QUICKLY = {"resultTypes": ["violations"], "preload": False}


def violations(page: Any, rules: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={**rules, **QUICKLY}).response["violations"]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(look: OpenLook, site: Serving, paid_usage: Usage, screen: str) -> None:
    who, mount, query, state = SCREENS[screen]
    # The tool puts its own script into the page, which our policy forbids. Without motion, no colour is on its way to another.
    still = {"color_scheme": "light", "reduced_motion": "reduce"}
    seen = look(who, base=f"http://127.0.0.1:{site.port}/{mount}", bypass_csp=True, **still)
    page = seen.open(query, state)
    page.emulate_media(color_scheme="light")
    assert violations(page, RULES) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, CONTRAST) == []
    seen.said.clear()


def test_forced_colors(look: OpenLook) -> None:
    """The bars keep the colours that tell them apart; the rest is of the system."""
    seen = look(forced_colors="active")
    page = seen.open()
    fills = page.locator("#calls .row").evaluate_all("all => all.map((one) => getComputedStyle(one).fill)")
    swatches = page.locator("#usage .legend .swatch").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert fills == swatches
    assert len(set(fills)) == len(fills) == 2
    surface = page.locator("#usage").evaluate("one => getComputedStyle(one).backgroundColor")
    assert surface not in fills


NARROW = ((320, "100%"), (640, "200%"))


@pytest.mark.parametrize(
    ("who", "query"), [("acme", "?lang=de&period=last_month"), ("acme", "?key=key_1"), ("operator", "?lang=de")]
)
def test_nothing_scrolls_sideways(look: OpenLook, site: Serving, paid_usage: Usage, who: str, query: str) -> None:
    seen = look(who, base=f"http://127.0.0.1:{site.port}/paid/usage")
    page = seen.open(query)
    for width, size in NARROW:
        page.set_viewport_size({"width": width, "height": 700})
        page.locator("html").evaluate(f"root => root.style.setProperty('font-size', '{size}')")
        page.locator("html").evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
        assert page.locator("html").evaluate("root => root.scrollWidth - root.clientWidth") == 0, width


def test_targets_are_large_enough(look: OpenLook) -> None:
    page = look().open()
    heights = "all => all.map(one => one.getBoundingClientRect().height)"
    assert min(page.locator("button, select, input, .tool, .legend a, tbody a").evaluate_all(heights)) >= 24


def test_german_with_plans(look: OpenLook, site: Serving, paid_usage: Usage) -> None:
    seen = look("acme", base=f"http://127.0.0.1:{site.port}/paid/usage", locale="de-DE")
    seen.open()
    assert "25,50\xa0€" in seen.text("#cost-total")
    assert "4.600 von 5.000" in seen.text("#limits")
    assert "Wer es trägt" in seen.page.locator("#cost-rows caption").inner_text()


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


def test_a_chart_says_how_it_is_used_and_a_screen_what_it_is(look: OpenLook) -> None:
    page = look().open()
    for chart, heading in (("calls", "Calls by endpoint"), ("failed", "Errors by status"), ("speeds", "How fast")):
        plot = page.locator(f"#{chart}-plot")
        assert plot.get_attribute("aria-label") == heading
        help_ = page.locator(f"#{plot.get_attribute('aria-describedby')}")
        assert "Arrow keys move" in (help_.text_content() or "")
    page.locator("#keys").get_by_role("link", name="Acme 1").click()
    page.locator("main > [role=status]", has_text="Acme 1").wait_for(state="attached")


def test_print_and_less_motion(look: OpenLook) -> None:
    seen = look(own=True, reduced_motion="reduce", color_scheme="dark")
    page = seen.open()
    assert page.locator(".page").evaluate("one => getComputedStyle(one).transitionDuration") in ("0s", "0.15s")
    page.emulate_media(media="print")
    assert not page.locator(".choices").is_visible()
    assert page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#calls svg").is_visible()
    assert not page.locator(".tools").first.is_visible()
    inks = page.locator("#calls .row, .share").evaluate_all("all => all.map((one) => getComputedStyle(one).printColorAdjust)")
    assert set(inks) == {"exact"}


@pytest.mark.parametrize("query", ["", "?theme=dark"])
def test_paper_is_white(look: OpenLook, query: str) -> None:
    seen = look(own=True, color_scheme="dark")
    page = seen.open(query)
    page.emulate_media(media="print", color_scheme="dark")
    style = "one => { const { backgroundColor, color } = getComputedStyle(one); return [backgroundColor, color]; }"
    assert page.locator("#usage").evaluate(style) == ["rgb(255, 255, 255)", "rgb(22, 25, 29)"]


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
        heights = page.locator("#usage .legend b").evaluate_all("all => all.map((one) => one.clientHeight || one.offsetHeight)")
        assert max(heights) < 30, "a number goes over several lines"
    names = seen.page.locator("#keys tbody th").all_inner_texts()
    assert "<script>alert(1)</script>" in names
    assert seen.total == sum(range(1, len(HOSTILE) + 1))
