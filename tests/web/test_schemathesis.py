"""schemathesis over `/openapi.json`: no undocumented status, no failure of ours, no answer that its schema does not allow.

A few thousand cases for each shell and viewer: `USAGE_EXAMPLES=200 python3 run test tests/web/test_schemathesis.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import schemathesis
from fastapi import FastAPI
from flask import Flask
from hypothesis import HealthCheck, given, settings
from starlette.applications import Starlette

from tests.support import Clock, ServerProcess, record_call
from tests.web.conftest import ACME, OPERATOR, OperatorOrKey, put_keys
from usage_middleware import Limit, Plan, Price, Quota, Usage
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.web import mount_usage, usage_app, usage_wsgi_app
from usage_middleware.web.auth import Sees
from usage_middleware.web.flask import usage_blueprint

#: Cases for each view, in each of two modes: what the schema allows, and what it does not.
EXAMPLES = int(os.environ.get("USAGE_EXAMPLES", "10"))
#: What is kept, which zones there are, and that an end lies after its start: no schema of one parameter can say that.
UNKNOWABLE = [schemathesis.checks.positive_data_acceptance]


class Shell(NamedTuple):
    """A way to serve the usage API, and under which path."""

    make: Callable[..., Any]
    load: Callable[..., Any]
    path: str


def _mounted(app: Any, usage: Usage, **options: Any) -> Any:
    mount_usage(app, "/usage", usage, **options)
    return app


def _blueprint(usage: Usage, **options: Any) -> Any:
    app = Flask(__name__)
    app.register_blueprint(usage_blueprint(usage, **options), url_prefix="/usage")
    return app


ASGI, WSGI = schemathesis.openapi.from_asgi, schemathesis.openapi.from_wsgi
SHELLS = {
    "asgi": Shell(usage_app, ASGI, ""),
    "starlette": Shell(lambda usage, **options: _mounted(Starlette(), usage, **options), ASGI, "/usage"),
    "fastapi": Shell(lambda usage, **options: _mounted(FastAPI(), usage, **options), ASGI, "/usage"),
    "wsgi": Shell(usage_wsgi_app, WSGI, ""),
    "flask": Shell(_blueprint, WSGI, "/usage"),
}
#: Who looks: the key that is shown, and what it may see.
VIEWERS: dict[str, tuple[str, Sees]] = {"customer": (ACME, "org"), "key viewer": (ACME, "key"), "operator": (OPERATOR, "org")}

#: So that the views of plans have something to say, and keys a cost.
PLAN = Plan(
    "pro",
    Limit("requests", 60),
    Quota("calls", 1_000),
    Quota("records", 5, of="records"),
    Quota("own", 720, by="key"),
    prices=(Price("base", flat="19.00"), Price("calls", unit="0.01")),
    currency="EUR",
)


@pytest.fixture(scope="module")
def counted(server: ServerProcess) -> Iterator[Usage]:
    """Some calls of an organisation with a plan, so that lists are not empty."""
    options: dict[str, Any] = {"dimensions": ("project",), "counters": ("records",), "plans": (PLAN,)}
    with Usage(server.url, namespace="tschemathesis", clock=Clock(), **options) as usage:
        put_keys(usage)
        usage.plans.assign("acme", "pro")
        record_call(usage.recorder, ("acme", "key_1"), "GET /v1/items", ("search",), 200, 8_000, 100, (10,))
        usage.flush()
        yield usage


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Shell:
    """Each way to serve the usage API."""
    return SHELLS[request.param]


@pytest.fixture(scope="module", params=VIEWERS)
def asked(counted: Usage, shell: Shell, request: pytest.FixtureRequest) -> tuple[Any, str]:
    """What the running application says of itself to a viewer, and the viewer's key."""
    key, sees = VIEWERS[request.param]
    app = shell.make(counted, auth=OperatorOrKey(counted.keys, sees), limit=None, allow_origins=["https://console.example.com"])
    return shell.load(f"{shell.path}/openapi.json", app, headers={"x-api-key": key}), key


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("view", [*VIEWS, *PLAN_VIEWS], ids=lambda view: view.name)
def test_a_view(asked: tuple[Any, str], view: AnyView, mode: schemathesis.GenerationMode) -> None:
    schema, key = asked

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(schema[view.path]["GET"].as_strategy(mode))
    def check(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers={"x-api-key": key}, excluded_checks=UNKNOWABLE)

    check()
