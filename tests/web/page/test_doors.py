"""In and out in a browser: the form, the cookie, a key that is revoked meanwhile, and the page in another site's page."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.serving import Serving
from tests.web.page.conftest import Counted, Look, OpenLook
from usage_middleware import KeyInfo, Usage, Viewer

pytestmark = pytest.mark.slow

COUNTED = Counted()


def test_in_and_out_with_a_key(look: OpenLook, site: Serving) -> None:
    seen = look(None, base=f"http://127.0.0.1:{site.port}/people")
    page = seen.open(state="signed-out")
    page.fill("#key", "sk_wrong")
    page.keyboard.press("Enter")
    page.get_by_text("This is no valid API key.").wait_for()
    page.fill("#key", "sk_acme_1")
    page.keyboard.press("Enter")
    seen.wait()
    assert seen.total == COUNTED.calls(org="acme")
    (cookie,) = seen.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/people")
    assert "sk_acme_1" not in page.content() + page.url + str(seen.context.storage_state()) + "".join(seen.asked)
    assert page.locator("html").evaluate("() => localStorage.length + sessionStorage.length") == 0
    page.click("#sign-out")
    seen.wait("signed-out")
    assert seen.context.cookies() == []
    seen.said.clear()


def test_a_key_that_is_revoked_meanwhile(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    site_usage.keys.put("brief", KeyInfo(id="key_8", name="Short"), secret="sk_short")
    seen = look(None, base=f"http://127.0.0.1:{site.port}/people")
    page = seen.open(state="signed-out")
    page.fill("#key", "sk_short")
    page.keyboard.press("Enter")
    seen.wait()
    site_usage.keys.revoke("brief", "key_8")
    page.select_option("#period", "7d")
    seen.wait("signed-out")
    assert "You were signed out" in seen.text("main")
    assert page.locator("#total").count() == 0
    page.reload()
    seen.wait("signed-out")
    assert "You were signed out" in seen.text("main")
    stranger = look(None, base=seen.base)
    stranger.open(state="signed-out")
    assert "You were signed out" not in stranger.text("main")
    seen.said.clear()
    stranger.said.clear()


def test_somebody_else_signs_in_meanwhile(look: OpenLook) -> None:
    """What is shown is named after those whose numbers it is."""
    seen = look("acme")
    page = seen.open()
    seen.context.add_cookies([{"name": "who", "value": "globex", "url": seen.base}])
    page.select_option("#period", "7d")
    page.get_by_role("heading", name="globex", level=1).wait_for()
    assert seen.total == COUNTED.calls(org="globex", within=7)
    assert "acme" not in seen.text("main")


def test_inside_of_another_page(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    viewer, portal = Viewer.organization("acme"), f"http://localhost:{site.port}"
    first, second = (site_usage.reader.embed_token(viewer, 60, audience="site", origin=portal) for _ in "ab")
    seen = look(None)
    show(seen, portal, f"{seen.base}/dashboard?embed=1&period=7d#token={first}", second)
    inside = seen.page.frame_locator("#usage")
    inside.locator("main[data-state=ready]").wait_for()
    total = COUNTED.calls(org="acme", within=7)
    assert inside.locator("#total").get_attribute("data-value") == str(total)
    ours = [url for url in seen.asked if url.startswith(seen.base)]
    assert first not in "".join(url.partition("#")[0] for url in ours)
    assert first not in (seen.page.frames[1].url)
    end(site_usage, first)
    inside.locator("#period").select_option("30d")
    inside.locator(f"#total[data-value='{COUNTED.calls(org='acme')}']").wait_for()
    assert seen.page.locator("body").get_attribute("data-asked") == seen.base.removesuffix("/usage")
    end(site_usage, second)
    inside.locator("#period").select_option("7d")
    inside.locator("main[data-state=signed-out]").wait_for()
    seen.said.clear()


def show(seen: Look, origin: str, framed: str, token: str) -> None:
    """A page of another origin, with ours in a frame, and with a token for the time after."""
    seen.page.goto(f"{origin}/around?{urlencode({'src': framed, 'token': token})}")


def end(usage: Usage, token: str) -> None:
    """As if its time was over."""
    from usage_middleware.report.embed import PREFIX, tickets_of

    tickets, secret = tickets_of(usage.reader), token.removeprefix(PREFIX)
    ticket = tickets.find("embed", secret, "site")
    assert ticket is not None
    tickets.end("embed", secret, ticket)


def test_another_site_can_not_sign_anybody_out(look: OpenLook, site: Serving) -> None:
    seen = look(None, base=f"http://127.0.0.1:{site.port}/people")
    page = seen.open(state="signed-out")
    page.fill("#key", "sk_acme_1")
    page.keyboard.press("Enter")
    seen.wait()
    # A form of another page sends it, as people's browsers would.
    for action in ("sign-out", "sign-in"):
        page.goto(f"http://localhost:{site.port}/around?src=&token=")
        form = "(body, to) => { body.innerHTML = `<form method=post action=${to}></form>`; body.firstChild.submit(); }"
        with page.expect_navigation(url=f"{seen.base}/{action}") as answered:
            page.locator("body").evaluate(form, f"{seen.base}/{action}")
        assert answered.value.status == 403
    seen.open()
    assert seen.total == COUNTED.calls(org="acme")
    seen.said.clear()


def test_no_secret_is_in_a_log(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    """The server logs every address that it is asked for."""
    token = site_usage.reader.embed_token(
        Viewer.organization("acme"), 60, audience="site", origin=f"http://localhost:{site.port}"
    )
    seen = look(None)
    show(seen, f"http://localhost:{site.port}", f"{seen.base}/dashboard?embed=1#token={token}", "later")
    seen.page.frame_locator("#usage").locator("main[data-state=ready]").wait_for()
    entered = look(None, base=f"http://127.0.0.1:{site.port}/people")
    entered.open(state="signed-out")
    entered.page.fill("#key", "sk_acme_1")
    entered.page.keyboard.press("Enter")
    entered.wait()
    (cookie,) = entered.context.cookies()
    log = "\n".join(line for line in site.log.read_text().splitlines() if "/around?" not in line)
    assert "GET /usage/dashboard?embed=1" in log
    assert "POST /people/sign-in" in log
    for secret in (token, "sk_acme_1", cookie["value"]):
        assert secret not in log
    seen.said.clear()
    entered.said.clear()


def test_strangers_may_not_frame_it(look: OpenLook, site: Serving, site_usage: Usage) -> None:
    portal = f"http://localhost:{site.port}"
    token = site_usage.reader.embed_token(Viewer.organization("acme"), audience="site", origin=portal)
    for query, parent in (("?embed=1", f"http://evil.localhost:{site.port}"), ("", portal)):
        seen = look("acme")
        with seen.page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            show(seen, parent, f"{seen.base}/dashboard{query}#token={token}", token)
        assert seen.page.frame_locator("#usage").locator("#total").count() == 0
        seen.said.clear()
