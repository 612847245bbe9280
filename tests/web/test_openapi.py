"""`/openapi.json` says what the views do: both come from one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import record_call
from tests.web.conftest import OPERATOR
from tests.web.hosts import Api
from tests.web.schema import violations
from usage_middleware import Usage, Viewer
from usage_middleware.options import Settings
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.web.errors import STATUS
from usage_middleware.web.openapi import document

COUNTERS = ("input_records", "resolvable_records", "matches")
RATES = {
    "overall_match_rate": ("matches", "input_records"),
    "resolvable_match_rate": ("matches", "resolvable_records"),
}
SETTINGS = Settings(dimensions=("project", "chain"), counters=COUNTERS, rates=RATES)
BY_VIEW = pytest.mark.parametrize("view", VIEWS, ids=[view.name for view in VIEWS])


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return document(SETTINGS, Viewer.organization("acme"))


def answer_schema(spec: dict[str, Any], view: AnyView, status: int = 200) -> dict[str, Any]:
    response = spec["paths"][view.path]["get"]["responses"][str(status)]
    found: dict[str, Any] = response["content"]["application/json"]["schema"]
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere(spec: dict[str, Any]) -> None:
    for reference in references(spec):
        assert reference.removeprefix("#/components/schemas/") in spec["components"]["schemas"]


@BY_VIEW
def test_examples_fit_their_schemas(view: AnyView) -> None:
    spec = document(Settings(counters=COUNTERS, rates=RATES), Viewer.organization("acme"))
    assert violations(json.loads(view.example), answer_schema(spec, view), spec) == []


@BY_VIEW
def test_answers_fit_their_schemas(one_api: Api, usage: Usage, view: AnyView) -> None:
    for key in ("key_1", "key_2"):
        record_call(usage.recorder, ("acme", key), "GET /v1/items", ("search", "eth"), 404, 8_000, 100, (10, 8, 6))
    usage.flush()
    spec = one_api.get("/openapi.json").json
    days = "?start_date=2026-11-01&end_date=2026-11-20" if view.name == "endpoints" else ""
    for api, query in ((one_api, days), (one_api.with_key(OPERATOR), "?org=acme"), (one_api, "?start=2026-11-19")):
        reply = api.get(f"{view.path}{query}")
        assert reply.status == 200, reply.body
        assert violations(reply.json, answer_schema(spec, view), spec) == []


@BY_VIEW
def test_errors_fit_their_schemas(one_api: Api, spec: dict[str, Any], view: AnyView) -> None:
    for api, query in (
        (one_api, "?_&nonsense=1"),
        (one_api, "?start=no"),
        (one_api, "?org=globex"),
        (one_api.with_key(None), ""),
    ):
        reply = api.get(f"{view.path}{query}")
        assert reply.status >= 400
        assert violations(reply.json, answer_schema(spec, view, reply.status), spec) == []


@BY_VIEW
def test_parameters_are_those_of_the_table(spec: dict[str, Any], view: AnyView) -> None:
    listed = {one["name"]: one for one in spec["paths"][view.path]["get"]["parameters"]}
    assert list(listed) == [parameter.name for parameter in view.parameters]
    for parameter in view.parameters:
        schema = listed[parameter.name]["schema"]
        assert schema.get("default") == parameter.default
        assert parameter.kind != "choice" or schema["enum"] == list(parameter.choices)


def test_what_the_documents_say_stands_in_it(spec: dict[str, Any]) -> None:
    def schema(path: str, name: str) -> dict[str, Any]:
        listed = spec["paths"][path]["get"]["parameters"]
        return next(dict(one["schema"]) for one in listed if one["name"] == name)

    months = ["month_to_date", "last_month"]
    assert schema("/summary", "period") == {"type": "string", "enum": ["24h", "7d", "30d", "90d", *months], "default": "30d"}
    assert schema("/by-group", "range") == {"type": "string", "enum": ["1h", "24h", "7d", "30d", *months], "default": "24h"}
    assert schema("/by-group", "group")["enum"] == ["project", "chain", "endpoint", "method", "status", "key"]
    assert schema("/", "limit") == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert schema("/endpoints", "bucketing_size")["enum"] == ["hour", "day", "week", "month", "quarter", "year"]
    assert schema("/endpoints", "include_unused_endpoints") == {"type": "boolean", "default": False}


@BY_VIEW
def test_every_code_stands_in_it(spec: dict[str, Any], view: AnyView) -> None:
    responses = spec["paths"][view.path]["get"]["responses"]
    codes = {
        code
        for status in responses
        if status != "200"
        for code in answer_schema(spec, view, int(status))["properties"]["code"]["enum"]
    }
    assert {parameter.code for parameter in view.parameters} <= codes
    assert set(view.codes) <= codes
    assert {401, 403, 404, 405, 422, 429, 500, 503} <= {int(status) for status in responses}


def test_no_code_is_left_out() -> None:
    codes = {code for view in VIEWS for code in view.codes} | {one.code for view in VIEWS for one in view.parameters}
    shared = {"unauthenticated", "forbidden", "not_found", "method_not_allowed", "unknown_parameter", "rate_limited"}
    assert codes | shared | {"internal_error", "usage_unavailable"} == set(STATUS)


def test_fields_are_described_in_the_words_of_json(spec: dict[str, Any]) -> None:
    org_id = spec["components"]["schemas"]["Summary"]["properties"]["org_id"]
    assert org_id["description"] == "the organisation; null where an operator sees all of them."


def test_operators_may_group_by_org() -> None:
    listed = document(SETTINGS, Viewer.operator())["paths"]["/by-group"]["get"]["parameters"]
    assert "org" in next(one for one in listed if one["name"] == "group")["schema"]["enum"]
