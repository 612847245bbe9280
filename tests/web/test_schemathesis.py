"""schemathesis over `/openapi.json`: no undocumented status, no failure of ours, no answer that its schema does not allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.support import Clock, ServerProcess, record_call
from tests.web.conftest import ACME, put_keys
from usage_middleware import Usage
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.web import KeyAuth, usage_app, usage_wsgi_app

#: What is kept, which zones there are, and that an end lies after its start: no schema of one parameter can say that.
UNKNOWABLE = [schemathesis.checks.positive_data_acceptance]


@pytest.fixture(scope="module")
def counted(server: ServerProcess) -> Iterator[Usage]:
    """Some calls, so that lists are not empty."""
    options: dict[str, Any] = {"dimensions": ("project",), "counters": ("records",)}
    with Usage(server.url, namespace="tschemathesis", clock=Clock(), **options) as usage:
        put_keys(usage)
        record_call(usage.recorder, ("acme", "key_1"), "GET /v1/items", ("search",), 200, 8_000, 100, (10,))
        usage.flush()
        yield usage


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def schema(counted: Usage, request: pytest.FixtureRequest) -> Any:
    """What the running application says of itself."""
    auth, headers = KeyAuth(counted.keys), {"x-api-key": ACME}
    if request.param == "asgi":
        return schemathesis.openapi.from_asgi("/openapi.json", usage_app(counted, auth=auth), headers=headers)
    return schemathesis.openapi.from_wsgi("/openapi.json", usage_wsgi_app(counted, auth=auth), headers=headers)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("view", VIEWS, ids=[view.name for view in VIEWS])
def test_a_view(schema: Any, view: AnyView, mode: schemathesis.GenerationMode) -> None:
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(schema[view.path]["GET"].as_strategy(mode))
    def check(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers={"x-api-key": ACME}, excluded_checks=UNKNOWABLE)

    check()
