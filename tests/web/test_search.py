"""`q` finds keys and values by a part of their names; totals stay, and everything that is not listed is in `other`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.seeds.traffic import Traffic, column
from tests.support import Clock, record_call, there
from tests.web.hosts import Api
from usage_middleware import KeyInfo, Viewer
from usage_middleware.errors import QueryError

if TYPE_CHECKING:
    from usage_middleware import Usage

#: What nobody may be able to make more of than text.
HOSTILE = ("(", "[a-", "\\", "%", "*", "\x00", "<script>", "\u202eabc", "a" * 128, "'; --", "İ")


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    """Four keys of acme, three of them with a name, at three endpoints."""
    usage = make_usage(dimensions=("project",))
    for number, name in enumerate(("Storefront", "Storage", "STRASSE"), 1):
        usage.keys.put("acme", KeyInfo(id=f"key_{number}", name=name), secret=f"sk_{number}")
    traffic = Traffic(usage, clock)
    for number in range(1, 5):
        traffic.calls("2026-11-20T13:00:00Z", f"GET /v1/{number}", number, key=f"key_{number}", project=f"p{number}")
    traffic.reach()
    return traffic


@pytest.fixture
def api(traffic: Traffic) -> Api:
    return traffic.api("sk_1", cache_seconds=0)


@pytest.mark.parametrize(
    ("q", "ids"),
    [
        ("sto", ["key_2", "key_1"]),
        ("STOREF", ["key_1"]),
        ("straße", ["key_3"]),
        ("key_4", ["key_4"]),
        ("nobody", []),
        ("", ["key_4", "key_3", "key_2", "key_1"]),
    ],
)
def test_keys_are_found_by_name_and_by_id(api: Api, q: str, ids: list[str]) -> None:
    found = api.get(f"/by-key?q={quote(q)}").json
    assert column(found["keys"], "key_id") == ids
    assert found["totals"]["request_count"] == 10
    shown = sum(column(found["keys"], "request_count"))
    assert found["other"]["request_count"] + shown == 10
    assert found["other"]["keys"] + len(ids) == 4


@pytest.mark.parametrize("group", ["endpoint", "key", "method", "status", "project"])
def test_values_of_every_group_are_found(api: Api, group: str) -> None:
    everything = api.get(f"/by-group?group={group}").json
    wanted = everything["buckets"][0]["bucket"]
    found = api.get(f"/by-group?group={group}&q={quote(wanted.upper())}").json
    assert column(found["buckets"], "bucket") == [wanted]
    assert found["totals"] == everything["totals"]
    assert found["other"]["calls"] + found["buckets"][0]["calls"] == 10


def test_values_come_in_pages(api: Api) -> None:
    pages = [api.get(f"/by-group?group=endpoint&limit=3&offset={offset}&_={offset}").json for offset in (0, 3)]
    listed = [name for page in pages for name in column(page["buckets"], "bucket")]
    assert listed == ["GET /v1/4", "GET /v1/3", "GET /v1/2", "GET /v1/1"]
    assert [page["pagination"] for page in pages] == [
        {"total": 4, "limit": 3, "offset": 0, "has_more": True},
        {"total": 4, "limit": 3, "offset": 3, "has_more": False},
    ]
    for page in pages:
        assert sum(column(page["buckets"], "calls")) + page["other"]["calls"] == 10
    assert api.get("/by-group?group=endpoint&limit=3").json["pagination"] is None


def test_an_operator_pages_through_more_than_a_thousand_organizations(make_usage: Callable[..., Usage], clock: Clock) -> None:
    usage = make_usage(max_unknown_orgs=2_000)
    traffic = Traffic(usage, clock)
    names = [f"org{number:04}" for number in range(1_100)]
    for name in names:
        record_call(usage.recorder, (name, "key_1"))
    assert usage.flush()
    api = traffic.api(None, auth=lambda _: Viewer.operator())
    pages = [api.get(f"/by-group?group=org&limit=1000&offset={offset}").json for offset in (0, 1000)]
    assert [name for page in pages for name in column(page["buckets"], "bucket")] == names
    assert column(api.get("/by-group?group=org&q=org0007").json["buckets"], "bucket") == ["org0007"]


def test_rows_of_organisations_tell_the_window_before_where_that_is_asked(
    make_usage: Callable[..., Usage], clock: Clock
) -> None:
    usage = make_usage(shards={"org": 4}, history=False)
    traffic = Traffic(usage, clock)
    now = clock.now
    for days, calls in ((9, {"acme": 2, "globex": 1}), (1, {"acme": 3, "new": 1})):
        clock.set(now - days * 86_400)
        for org, times in calls.items():
            for _ in range(times):
                record_call(usage.recorder, (org, "key_1"))
        assert usage.flush()
    clock.set(now)
    api = traffic.api(None, auth=lambda _: Viewer.operator())
    found = api.get("/by-group?group=org&range=7d&compare=previous").json
    assert [(row["bucket"], row["calls"], row["previous"]) for row in found["buckets"]] == [("acme", 3, 2), ("new", 1, 0)]
    assert found["previous"]["totals"]["calls"] == 3
    # Half-hours of thirty-one days ago are not kept on boards.
    found = api.get("/by-group?group=org&range=30d&compare=previous").json
    assert set(column(found["buckets"], "previous")) == {None}
    assert found["unavailable"]["buckets.previous"]["code"] == "not_retained"
    assert found["previous"]["totals"]["calls"] == 0
    one = api.get("/by-group?group=org&org=acme&range=7d&compare=previous").json["buckets"][0]
    assert "previous" not in one
    assert "previous" not in api.get("/by-group?group=endpoint&range=7d&compare=previous").json["buckets"][0]


@pytest.mark.parametrize("path", ["/by-key", "/by-group?group=endpoint"])
@pytest.mark.parametrize("q", HOSTILE, ids=ascii)
def test_no_text_is_more_than_text(api: Api, path: str, q: str) -> None:
    found = api.get(f"{path}{'&' if '?' in path else '?'}q={quote(q)}")
    assert found.status == 200
    assert found.json.get("keys", found.json.get("buckets")) == []


@pytest.mark.parametrize("path", ["/by-key", "/by-group"])
def test_a_text_has_a_bound(api: Api, path: str) -> None:
    found = api.get(f"{path}?q={'a' * 129}")
    assert (found.status, found.code, found.json["param"]) == (422, "invalid_parameter", "q")
    assert found.json["message"] == "q must have at most 128 characters"


def test_programs_search_too(traffic: Traffic) -> None:
    reader = traffic.usage.reader
    assert [key.key_id for key in there(reader.by_key(org="acme", q="storage").keys)] == ["key_2"]
    with pytest.raises(QueryError, match="128 characters"):
        reader.by_key(org="acme", q="a" * 129)


def test_a_page_of_found_keys_has_its_own_order(api: Api) -> None:
    first = api.get("/by-key?q=sto&limit=1").json
    second = api.get("/by-key?q=sto&limit=1&offset=1").json
    assert column(first["keys"] + second["keys"], "key_id") == ["key_2", "key_1"]
    assert first["pagination"]["total"] == 2


def test_csv_lists_what_was_found(api: Api) -> None:
    assert b"Storage" in api.get("/by-key?q=storage&format=csv").body
    assert b"Storefront" not in api.get("/by-key?q=storage&format=csv").body
