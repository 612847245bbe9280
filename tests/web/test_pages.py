"""A page decides who may look at it, and how long browsers may keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from usage_middleware import Viewer
from usage_middleware.credentials import Credentials
from usage_middleware.web.app_options import AppOptions
from usage_middleware.web.handler import Handler
from usage_middleware.web.http import Request, Response, json_response
from usage_middleware.web.pages import Page, Visit

if TYPE_CHECKING:
    from usage_middleware import Usage

Ask = Callable[..., Response]
ACME = Viewer.organization("acme")


def style(visit: Visit) -> Response:
    return Response(200, {"Content-Type": "text/css"}, b"body {}")


def who(visit: Visit) -> Response:
    return json_response(visit.viewer.org)


def fails(visit: Visit) -> Response:
    raise RuntimeError("no")


@pytest.fixture
def ask(usage: Usage) -> Ask:
    """Asks a handler with four pages of its own."""
    pages = {
        "/style.css": Page(style, is_public=True, cache_control="public, max-age=31536000, immutable"),
        "/who": Page(who, cache_control="private, max-age=5"),
        "/forgot": Page(who, is_public=True, cache_control="public"),
        "/fails": Page(fails, is_public=True, cache_control="public"),
    }
    handler = Handler(usage.reader, lambda viewer: viewer, AppOptions(), Credentials(), pages)

    def ask(path: str, viewer: Viewer | None = None, method: str = "GET") -> Response:
        return handler.answer(Request(method, path), viewer)

    return ask


def test_a_public_page_is_for_everybody_and_auth_is_not_asked(usage: Usage) -> None:
    def auth(_: object) -> Any:
        pytest.fail("a public page needs no viewer")

    handler = Handler(usage.reader, auth, AppOptions(), Credentials(), {"/style.css": Page(style, is_public=True)})
    response = handler.answer(Request("GET", "/style.css"), None)
    assert (response.status, response.body, response.headers["Content-Type"]) == (200, b"body {}", "text/css")


def test_a_page_says_how_long_it_may_be_kept(ask: Ask) -> None:
    assert ask("/style.css").headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert ask("/who", ACME).headers["Cache-Control"] == "private, max-age=5"
    assert ask("/summary", ACME).headers["Cache-Control"] == "private, no-cache"


def test_a_page_needs_a_viewer_unless_it_is_public(ask: Ask) -> None:
    assert ask("/who").status == 401
    assert (ask("/who", ACME).status, ask("/who", ACME).body) == (200, b'"acme"')


def test_a_public_page_knows_nobody(ask: Ask) -> None:
    assert ask("/forgot", ACME).status == 401


def test_errors_are_private_whatever_the_page_says(ask: Ask) -> None:
    for response, status in ((ask("/fails"), 500), (ask("/forgot"), 401), (ask("/style.css", method="POST"), 405)):
        assert (response.status, response.headers["Cache-Control"]) == (status, "private, no-cache")


def test_head_of_a_page_has_no_body(ask: Ask) -> None:
    response = ask("/style.css", method="HEAD")
    assert (response.status, response.body, response.headers["Content-Length"]) == (200, b"", "7")
