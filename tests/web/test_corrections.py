"""`/corrections`: the list of corrections over HTTP, for operators alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import START
from tests.web.conftest import ACME, OPERATOR
from tests.web.hosts import Api
from usage_middleware.report.corrections import VIEW

if TYPE_CHECKING:
    from usage_middleware import Usage

CALL: dict[str, Any] = {"at": START, "key": "key_1", "endpoint": "GET /a", "status": 200, "calls": 3}


@pytest.fixture
def corrected(usage: Usage) -> Usage:
    usage.correct("acme", id="1", reason="=an import, of March", tags={"project": "x"}, counts={"matches": 2}, **CALL)
    usage.correct("globex", id="2", reason="a loop", **CALL)
    return usage


def test_an_operator_sees_them(corrected: Usage, api: Api) -> None:
    found = api.get("/corrections", x_api_key=OPERATOR)
    assert found.status == 200
    assert [(one["org"], one["id"], one["calls"]) for one in found.json["corrections"]] == [
        ("acme", "1", 3),
        ("globex", "2", 3),
    ]
    assert found.json["corrections"][0].keys() == json.loads(VIEW.example)["corrections"][0].keys()
    assert found.json.keys() == json.loads(VIEW.example).keys()
    (one,) = api.get("/corrections?org=acme&start=2026-11-20&end=2026-11-21", x_api_key=OPERATOR).json["corrections"]
    assert (one["reason"], one["counts"], one["tags"]) == ("=an import, of March", {"matches": 2}, {"project": "x"})
    assert api.get("/corrections?start=2026-11-21", x_api_key=OPERATOR).json["code"] == "invalid_window"


def test_nobody_else_does(corrected: Usage, api: Api) -> None:
    for target in ("/corrections", "/corrections?org=acme", "/corrections?nonsense"):
        assert (api.get(target, x_api_key=ACME).status, api.get(target, x_api_key=ACME).code) == (403, "forbidden")
        assert api.get(target, x_api_key="sk_nobody").status == 401


def test_parameters_are_checked(one_api: Api) -> None:
    for query, code in (
        ("align=exact", "unknown_parameter"),
        ("start=x", "invalid_window"),
        ("format=xml", "invalid_parameter"),
    ):
        assert one_api.get(f"/corrections?{query}", x_api_key=OPERATOR).code == code


def test_as_csv(corrected: Usage, one_api: Api) -> None:
    header, first, second = one_api.get("/corrections?format=csv", x_api_key=OPERATOR).body.decode().splitlines()
    assert header.startswith("org,id,at,made_at,reason,key_id,")
    assert '"\'=an import, of March"' in first
    assert "matches=2" in first
    assert second.startswith("globex,2,")
