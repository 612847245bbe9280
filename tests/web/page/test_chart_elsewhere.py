"""`<usage-chart>` alone inside of a page of another origin: its numbers, its own styles, its token."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.serving import Serving
from tests.web.page.conftest import Counted, Look, OpenLook
from tests.web.page.test_for_everybody import RULES, violations
from usage_middleware import Usage, Viewer

pytestmark = pytest.mark.slow

COUNTED = Counted()
DRAWN = "usage-chart svg"


def put(seen: Look, site: Serving, token: str, question: str = "group=endpoint&granularity=day", **attributes: str) -> Any:
    """A page of another origin with a chart of this question."""
    ours = f"http://127.0.0.1:{site.port}/usage"
    given = {"script": f"{ours}/dashboard/chart.js", "src": f"{ours}/series?{question}", "token": token, **attributes}
    seen.page.goto(f"http://localhost:{site.port}/chart?{urlencode(given)}")
    return seen.page


def token_of(usage: Usage, site: Serving, viewer: Viewer | None = None) -> str:
    portal = f"http://localhost:{site.port}"
    return usage.reader.embed_token(viewer or Viewer.organization("acme"), 60, audience="site", origin=portal)


def test_its_numbers_and_its_own_styles(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    seen = look(None)
    page = put(seen, site, token_of(site_usage, site), heading="What you asked")
    page.locator(DRAWN).wait_for()
    assert page.locator("usage-chart h2").inner_text() == "What you asked"
    legend = {text.split("\n")[0]: text.split("\n")[-1] for text in page.locator("usage-chart .legend li").all_inner_texts()}
    assert legend == {
        f"GET /v1/{name}": f"{COUNTED.calls(org='acme', endpoint=f'GET /v1/{name}'):,}" for name in ("items", "places")
    }
    style = "one => { const { fontSize, fill } = getComputedStyle(one); return [fontSize, fill]; }"
    size, fill = page.locator("usage-chart .plot text").first.evaluate(style)
    assert size != "1px"
    assert fill != "rgb(255, 0, 0)"
    page.locator("usage-chart .plot").focus()
    page.keyboard.press("ArrowLeft")
    assert f"{COUNTED.calls(org='acme', within=1)}" in page.locator("usage-chart [role=status]").inner_text()
    # A heading alone does not make a page of the portal's.
    assert [one for one in violations(page, RULES) if "usage-chart" in one] == []


@pytest.mark.parametrize(
    ("question", "lang", "named"),
    [("period=7d", "de", "Aufrufe"), ("measure=p95&period=7d", "en", "p95"), ("group=status&period=7d", "en", "200")],
)
def test_other_questions(look: OpenLook, site: Serving, site_usage: Usage, question: str, lang: str, named: str) -> None:
    seen = look(None)
    page = put(seen, site, token_of(site_usage, site), question, lang=lang)
    page.locator(DRAWN).wait_for()
    assert page.locator("usage-chart .legend li").first.inner_text().startswith(named)


def test_numbers_and_days_are_in_the_language_of_the_words(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    """Of the page around it, not of the browser."""
    seen = look(None)
    page = put(seen, site, token_of(site_usage, site), "period=30d&granularity=day", lang="de")
    page.locator(DRAWN).wait_for()
    assert f"{COUNTED.calls(org='acme'):,}".replace(",", ".") in page.locator("usage-chart .legend").inner_text()
    page.locator("usage-chart .plot").focus()
    assert re.match(r"(Mo|Di|Mi|Do|Fr|Sa|So)", page.locator("usage-chart [role=status]").inner_text())
    french = put(seen, site, token_of(site_usage, site), "period=30d&granularity=day", lang="fr")
    french.locator(DRAWN).wait_for()
    assert f"Calls\n{COUNTED.calls(org='acme'):,}" in french.locator("usage-chart .legend").inner_text()


def test_a_token_that_is_over_asks_for_another(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    seen = look(None)
    page = put(seen, site, "uet_" + "a" * 43)
    page.locator("usage-chart [role=status]", has_text="shown for too long").wait_for()
    assert page.locator(DRAWN).count() == 0
    page.locator("#ours").evaluate("(one, token) => one.setAttribute('token', token)", token_of(site_usage, site))
    page.locator(DRAWN).wait_for()
    assert all(re.search("401", said) for said in seen.said)
    seen.said.clear()


def test_it_asks_again_every_minute_while_it_is_there(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    seen = look(None, own=True)
    seen.page.clock.install()
    page = put(seen, site, token_of(site_usage, site))
    page.locator(DRAWN).wait_for()
    with page.expect_response("**/series?*"):
        page.clock.fast_forward(61_000)
    page.locator("#ours").evaluate("one => one.remove()")
    asked = len(seen.asked)
    page.clock.fast_forward(200_000)
    assert len(seen.asked) == asked


def test_a_key_sees_itself_alone(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    seen = look(None)
    page = put(seen, site, token_of(site_usage, site, Viewer.key("acme", "key_2")), "period=30d")
    page.locator(DRAWN).wait_for()
    total = page.locator("usage-chart .legend b").inner_text()
    assert total == f"{COUNTED.calls(org='acme', key='key_2'):,}"


def test_an_origin_that_was_not_named_gets_nothing(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    seen = look(None)
    token = token_of(site_usage, site)
    ours = f"http://127.0.0.1:{site.port}/usage"
    given = {"script": f"{ours}/dashboard/chart.js", "src": f"{ours}/series", "token": token}
    with seen.page.expect_console_message(lambda message: "CORS policy" in message.text):
        seen.page.goto(f"http://evil.localhost:{site.port}/chart?{urlencode(given)}")
    assert seen.page.locator(DRAWN).count() == 0
    seen.said.clear()
