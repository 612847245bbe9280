"""One behaviour in every framework: what is counted, under which label, with nothing but the middleware around it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tests.capture.recording import Usage
from tests.capture.shells import Boom
from tests.frameworks.table import APPLICATIONS, NAMED, UNMATCHED, Application, Wrapped
from usage_middleware.capture.call import track
from usage_middleware.credentials import credential_digest

NOBODY = ("default", "(anonymous)")


@pytest.fixture(params=APPLICATIONS, ids=str)
def application(request: pytest.FixtureRequest) -> Application:
    found: Application = request.param
    return found


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def wrapped(application: Application, usage: Usage) -> Wrapped:
    return application.wrapped(usage)


def test_an_ordinary_call(wrapped: Wrapped, usage: Usage) -> None:
    assert wrapped.ask() == (200, b"hello")
    assert (usage.only.endpoint, usage.only.status, usage.only.sent) == (f"GET {NAMED}", 200, 5)
    assert usage.only.caller == NOBODY


def test_each_request_is_one_call(wrapped: Wrapped, usage: Usage) -> None:
    for number in range(4):
        assert wrapped.ask(path=f"/items/{number}").status == 200
    assert usage.labels == [f"GET {NAMED}"] * 4


def test_mounts_and_includes(wrapped: Wrapped, usage: Usage) -> None:
    assert wrapped.ask(path="/nested/acme/items/5") == (200, b"hello")
    assert usage.only.endpoint == "GET /nested/{tenant}/items/{id}"


def test_another_method(wrapped: Wrapped, usage: Usage) -> None:
    if not wrapped.application.posts:
        pytest.skip("its routes don't tell methods apart")
    assert wrapped.ask("POST", "/items/5").status == 200
    assert usage.only.endpoint == f"POST {NAMED}"


def test_a_method_that_is_refused(wrapped: Wrapped, usage: Usage) -> None:
    status, template = wrapped.application.refused
    assert wrapped.ask("PUT" if wrapped.application.posts else "GET", "/items/5").status == status
    assert usage.only.endpoint == f"{'PUT' if wrapped.application.posts else 'GET'} {template}"


@pytest.mark.parametrize("path", ["/nothing", "/nested/acme/nothing", "/items/5/more", "/wp-login.php"])
def test_a_path_that_nothing_matches(wrapped: Wrapped, usage: Usage, path: str) -> None:
    assert wrapped.ask(path=path).status == 404
    assert usage.only.endpoint in (f"GET {UNMATCHED}", *_CATCH_ALL.get(wrapped.application.name, ()))


#: Datasette takes any path of one to three parts for one of its databases, tables or rows.
_CATCH_ALL = {
    "Datasette": ("GET /{database}", "GET /{database}/{table}", "GET /{database}/{table}/{pks}"),
}


def test_an_exception_is_a_500(wrapped: Wrapped, usage: Usage) -> None:
    try:
        assert wrapped.ask(path="/boom").status == 500
    except Boom:
        assert wrapped.application.raises
    assert (usage.only.endpoint, usage.only.status) == ("GET /boom", 500)


def test_a_status_of_the_applications_own(wrapped: Wrapped, usage: Usage) -> None:
    for code in (201, 404, 503):
        assert wrapped.ask(path=f"/status/{code}").status == code
    assert usage.labels == ["GET /status/{code}"] * 3


def test_a_stream(wrapped: Wrapped, usage: Usage) -> None:
    assert wrapped.ask(path="/stream") == (200, b"abcde")
    assert (usage.only.endpoint, usage.only.latency_us, usage.only.sent) == ("GET /stream", 500_000, 5)


def test_the_key_in_the_headers(wrapped: Wrapped, usage: Usage) -> None:
    wrapped.ask(headers={"x-api-key": "sk_1"})
    assert usage.only.caller == credential_digest("sk_1")


def test_the_request_of_a_handler_is_tracked(application: Application, usage: Usage) -> None:
    wrapped = application.wrapped(usage, lambda request: track(request).tag(project="p").count(records=3))
    assert wrapped.ask(path="/track") == (200, b"ok")
    assert (usage.only.endpoint, usage.only.tags, usage.only.counts) == ("GET /track", ("p", "home"), (3,))


def test_further_labels(wrapped: Wrapped, usage: Usage) -> None:
    labels = wrapped.application.labels
    for path in labels:
        wrapped.ask(path=path)
    assert usage.labels == [f"GET {template}" for template in labels.values()]


def test_a_copy_of_the_scope_or_environ_hides_nothing(application: Application, usage: Usage) -> None:
    """Frameworks whose applications have a hook are seen through any middleware."""
    if application.name in _LEAVES_ITSELF:
        pytest.skip("it leaves its route in the scope or environ, where a copy hides it")
    wrapped = application.wrapped(usage)
    inner = wrapped.app.app

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        await inner(dict(scope), receive, send)

    wrapped.app.app = copying if application.is_asgi else lambda environ, start: inner(dict(environ), start)
    with contextlib.suppress(Boom):
        assert wrapped.ask().status == 200
    assert usage.only.endpoint == f"GET {NAMED}"


_LEAVES_ITSELF = {"Starlette", "FastAPI", "Litestar", "Flask", "Bottle"}


def test_wrapped_twice_it_is_counted_once(application: Application, usage: Usage) -> None:
    wrapped = application.wrapped(usage)
    again = Wrapped(application, type(wrapped.app)(wrapped.app, usage=usage))
    again.ask()
    assert usage.labels == [f"GET {NAMED}"]
