"""Runs inside another project's tests: wraps every application, and writes down how each test went.

For pytest it is a plugin (`-p usage_wrapping`), for Django's own runner a program. Variables: `USAGE_SUITE` names what is
wrapped (empty: nothing), `USAGE_SUITE_RESULTS` the file for the results.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import sys
import unittest
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

#: Worse outcomes win: a test whose teardown fails has failed.
ORDER = ("skipped", "passed", "failed")

outcomes: dict[str, str] = {}
reasons: dict[str, str] = {}


def note(test: str, outcome: str, reason: str = "") -> None:
    """Keep the outcome of a test, or of a part of it."""
    before = outcomes.get(test, outcome)
    outcomes[test] = max(before, outcome, key=ORDER.index)
    if outcome == "failed":
        reasons.setdefault(test, reason)


def pytest_configure(config: pytest.Config) -> None:
    """Wrap, before a test module is imported."""
    begin()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep how a test went. One that is expected to fail counts as passed if it does."""
    expected = hasattr(report, "wasxfail") and report.outcome == "skipped"
    if report.when == "call" or report.outcome != "passed":
        note(report.nodeid, "passed" if expected else report.outcome, report.longreprtext)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Keep which files can't be read."""
    if report.outcome == "failed":
        note(report.nodeid, "failed", report.longreprtext)


def begin() -> None:
    """Wrap what the variable names; write the results at the end."""
    names = os.environ.get("USAGE_SUITE", "").split()
    usage = make_usage() if names else None
    for name in names:
        WRAPPERS[name](usage)
    atexit.register(finish, usage)


def make_usage() -> Any:
    """What counts the requests: for real, in a Redis."""
    from usage_middleware import Usage

    return Usage(os.environ["USAGE_REDIS_URL"], namespace="suites", sigterm=False)


def finish(usage: Any) -> None:
    """Write down how everything went, and what went wrong on our side."""
    lost: dict[str, int] = {}
    if usage is not None:
        usage.close()
        lost = dict(usage.recorder.stats().lost)
    with open(os.environ["USAGE_SUITE_RESULTS"], "w") as results:
        json.dump({"outcomes": outcomes, "reasons": reasons, "lost": lost}, results)


# --- what is wrapped


def asgi(place: str) -> Callable[[Any], None]:
    """Wraps the applications that are of a class."""

    def wrap(usage: Any) -> None:
        from usage_middleware import UsageMiddleware

        kind = find(place)
        original = kind.__call__

        async def call(self: Any, scope: Any, receive: Any, send: Any) -> Any:
            return await UsageMiddleware(original.__get__(self), usage)(scope, receive, send)

        kind.__call__ = call

    return wrap


def wsgi(place: str) -> Callable[[Any], None]:
    """Wraps the applications that are of a class."""

    def wrap(usage: Any) -> None:
        from usage_middleware import WSGIUsageMiddleware

        kind = find(place)
        original = kind.__call__

        def call(self: Any, environ: Any, start_response: Any) -> Any:
            return WSGIUsageMiddleware(original.__get__(self), usage)(environ, start_response)

        kind.__call__ = call

    return wrap


def starlette_client(usage: Any) -> None:
    """Applications that are no Starlette, in Starlette's client."""
    from usage_middleware import UsageMiddleware

    transport = find("starlette.testclient:_TestClientTransport")
    original = transport.__init__

    def init(self: Any, app: Any, *more: Any, **named: Any) -> None:
        original(self, UsageMiddleware(app, usage), *more, **named)

    transport.__init__ = init


def werkzeug_client(usage: Any) -> None:
    """Whatever is run by Werkzeug's client."""
    from usage_middleware import WSGIUsageMiddleware

    module: Any = importlib.import_module("werkzeug.test")
    original = vars(module)["run_wsgi_app"]

    def run_wsgi_app(app: Any, *more: Any, **named: Any) -> Any:
        return original(WSGIUsageMiddleware(app, usage), *more, **named)

    module.run_wsgi_app = run_wsgi_app


def django_client(usage: Any) -> None:
    """Django's test client, which calls the handler for a response object, not by WSGI or ASGI."""
    from usage_middleware import UsageMiddleware, WSGIUsageMiddleware

    plain, asynchronous = find("django.test.client:ClientHandler"), find("django.test.client:AsyncClientHandler")
    original, original_async = plain.__call__, asynchronous.__call__

    def call(self: Any, environ: Any) -> Any:
        answers = []

        def app(environ: Any, start_response: Any) -> Any:
            answers.append(original(self, environ))
            start_response(f"{answers[0].status_code} {answers[0].reason_phrase}", list(answers[0].items()))
            return [b""]

        for _ in closed(WSGIUsageMiddleware(app, usage)(environ, lambda *_: print)):
            """It is the response object that the client reads."""
        return answers[0]

    async def call_async(self: Any, scope: Any) -> Any:
        answers = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            answers.append(await original_async(self, scope))
            await send({"type": "http.response.start", "status": answers[0].status_code})
            await send({"type": "http.response.body"})

        async def receive() -> Any:
            raise NotImplementedError

        async def send(message: Any) -> None:
            """It is the response object that the client reads."""

        await UsageMiddleware(app, usage)(scope, receive, send)
        return answers[0]

    plain.__call__, asynchronous.__call__ = call, call_async


def closed(body: Any) -> Iterator[Any]:
    """The pieces of a body, closed afterwards as a server does."""
    yield from body
    if hasattr(body, "close"):
        body.close()


def find(place: str) -> Any:
    """What stands at `module:name`."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


WRAPPERS: dict[str, Callable[[Any], None]] = {
    "starlette": asgi("starlette.applications:Starlette"),
    "starlette-client": starlette_client,
    "fastapi": asgi("fastapi:FastAPI"),
    "litestar": asgi("litestar:Litestar"),
    "quart": asgi("quart:Quart"),
    "falcon-asgi": asgi("falcon.asgi:App"),
    "falcon-wsgi": wsgi("falcon:App"),
    "flask": wsgi("flask:Flask"),
    "werkzeug-client": werkzeug_client,
    "bottle": wsgi("bottle:Bottle"),
    "django-wsgi": wsgi("django.core.handlers.wsgi:WSGIHandler"),
    "django-asgi": asgi("django.core.handlers.asgi:ASGIHandler"),
    "django-client": django_client,
}


# --- Django's own runner


def run_django(arguments: Sequence[str]) -> None:
    """Run Django's `runtests.py` with these arguments, noting how each test goes."""
    for method, outcome in {"addSuccess": "passed", "addSkip": "skipped", "addExpectedFailure": "passed"}.items():
        listen(method, outcome)
    for method in ("addFailure", "addError", "addUnexpectedSuccess"):
        listen(method, "failed")
    begin()
    sys.path.insert(0, os.getcwd())
    sys.argv = ["runtests.py", *arguments]
    runpy.run_path("runtests.py", run_name="__main__")


def listen(method: str, outcome: str) -> None:
    """Note each test for which a method of the result is called."""
    original = getattr(unittest.TestResult, method)

    def called(self: Any, test: Any, *more: Any) -> Any:
        note(str(test), outcome, str(more[0][1]) if more and isinstance(more[0], tuple) else "")
        return original(self, test, *more)

    setattr(unittest.TestResult, method, called)


if __name__ == "__main__":
    run_django(sys.argv[1:])
