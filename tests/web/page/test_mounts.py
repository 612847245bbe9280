"""Where the page may be: below a prefix, behind a proxy that takes it away, and twice in one application."""

from __future__ import annotations

import pytest

from tests.serving import Serving
from tests.support import ServerProcess
from tests.web.page.conftest import Counted, Look, OpenLook, gunicorn, site_of
from tests.web.page.proxy import proxied

pytestmark = pytest.mark.slow

COUNTED = Counted()


def sign_in(seen: Look, secret: str) -> None:
    """Show an API key to the form."""
    seen.page.fill("#key", secret)
    seen.page.keyboard.press("Enter")
    seen.wait()


def test_under_wsgi_below_another_path(look: OpenLook, page_server: ServerProcess) -> None:
    with site_of(gunicorn, page_server.url) as running:
        seen = look(base=f"http://127.0.0.1:{running.port}/my/usage")
        seen.open("/")
        assert seen.page.url.endswith("/my/usage/dashboard")
        assert seen.total == COUNTED.calls(org="acme")
        assert all(f":{running.port}/my/usage/" in url or url.startswith("data:") for url in seen.asked)


def test_behind_a_proxy_that_takes_the_prefix_away(look: OpenLook, site: Serving) -> None:
    with proxied(site.port, "/api/v2") as port:
        seen = look(None, base=f"http://127.0.0.1:{port}/api/v2/people", own=True)
        page = seen.open("/", state="signed-out")
        assert page.url == f"{seen.base}/dashboard"
        sign_in(seen, "sk_acme_1")
        assert seen.total == COUNTED.calls(org="acme")
        (cookie,) = seen.context.cookies()
        assert cookie["path"] == "/api/v2/people"
        page.locator("#endpoints").get_by_role("link", name="GET /v1/items").click()
        seen.wait()
        assert seen.total == COUNTED.calls(org="acme", endpoint="GET /v1/items")
        page.click("#sign-out")
        seen.wait("signed-out")
        assert all(f":{port}/api/v2/people/" in url or url.startswith("data:") for url in seen.asked)
        seen.said.clear()
        seen.context.close()


def test_two_mounts_at_once(look: OpenLook, site: Serving) -> None:
    """An organisation is signed in to one, a key of another organisation to the other, a third looks by the host's session."""
    people = look("globex", base=f"http://127.0.0.1:{site.port}/usage")
    windows = [people]
    for name in ("people", "machines"):
        other = Look(people.context, f"http://127.0.0.1:{site.port}/{name}")
        other.open(state="signed-out")
        windows.append(other)
    sign_in(windows[1], "sk_globex")
    sign_in(windows[2], "sk_acme_2")
    people.open()
    globex = COUNTED.calls(org="globex")
    assert [window.total for window in windows] == [globex, globex, COUNTED.calls(org="acme", key="key_2")]
    windows[1].page.click("#sign-out")
    windows[1].wait("signed-out")
    windows[2].open()
    assert windows[2].total == COUNTED.calls(org="acme", key="key_2")
    for window in windows:
        window.said.clear()


def test_an_operator_where_nothing_is_counted_together(look: OpenLook, apart: str) -> None:
    seen = look("operator", base=apart)
    page = seen.open()
    assert "Workers in the last minute" in seen.text("#workers")
    page.fill("#org", "acme")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="acme", level=1).wait_for()
    seen.wait()
    assert seen.total == 3
    page.get_by_role("link", name="All organisations").click()
    page.wait_for_selector("#org")
