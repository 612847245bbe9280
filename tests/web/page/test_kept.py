"""What a reader has in hand stays when the page asks again: the focus, the place in the page and in a table."""

from __future__ import annotations

import pytest

from tests.web.page.conftest import OpenLook

pytestmark = pytest.mark.slow

HAS_FOCUS = "one => one === document.activeElement"


@pytest.mark.parametrize("held", ["#calls-plot", "#keys tbody a", "#endpoints tbody a", "#usage .legend a", "#csv"])
def test_a_minute_later_the_focus_and_the_place_are_the_same(look: OpenLook, held: str) -> None:
    seen = look(own=True, viewport={"width": 1000, "height": 500})
    seen.page.clock.install()
    page = seen.open()
    page.locator(held).first.focus()
    page.locator("html").evaluate("() => window.scrollTo(0, 400)")
    page.locator("header.top").evaluate("one => { one.id = 'before' }")
    page.clock.fast_forward(61_000)
    page.wait_for_selector("#before", state="detached")
    seen.wait()
    assert page.locator(held).first.evaluate(HAS_FOCUS)
    assert page.locator("html").evaluate("() => window.scrollY") == 400


def test_the_chart_goes_on_where_the_keyboard_was(look: OpenLook) -> None:
    seen = look(own=True)
    seen.page.clock.install()
    page = seen.open("?period=7d")
    page.focus("#calls-plot")
    page.keyboard.press("ArrowLeft")
    there = page.locator("#calls [role=status]").inner_text()
    page.keyboard.press("ArrowLeft")
    page.locator("header.top").evaluate("one => { one.id = 'before' }")
    page.clock.fast_forward(61_000)
    page.wait_for_selector("#before", state="detached")
    seen.wait()
    page.keyboard.press("ArrowRight")
    assert page.locator("#calls [role=status]").inner_text() == there


def test_a_table_stays_where_it_was_scrolled_to(look: OpenLook) -> None:
    seen = look(own=True)
    seen.page.clock.install()
    page = seen.open("?table=1")
    page.focus("#calls-table")
    page.locator("#calls-table").evaluate("one => one.scrollTo(0, 150)")
    page.locator("header.top").evaluate("one => { one.id = 'before' }")
    page.clock.fast_forward(61_000)
    page.wait_for_selector("#before", state="detached")
    seen.wait()
    assert page.locator("#calls-table").evaluate("one => one.scrollTop") == 150
    assert page.locator("#calls-table").evaluate(HAS_FOCUS)
