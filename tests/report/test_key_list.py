"""The keys of a large organisation are listed without reading what is known of each; the answers are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import record_call
from tests.web.conftest import ACME
from tests.web.hosts import HOSTS, Api, watched
from usage_middleware import KeyInfo, Viewer
from usage_middleware.report import known_keys
from usage_middleware.store import keys
from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.members import ANONYMOUS, key_member

if TYPE_CHECKING:
    from usage_middleware import Usage

LONG = "x" * 300
IDS = ["key_1", "key_2", "key_3", "(other)", LONG, "k\u00e9", "none"]
NAMES = ["Web", "App", "key_9", "web", "Web", "\U0001f600", "a\x00b\x01c\x02"]


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    """An organisation with keys that are active, revoked, of two environments, unknown, and never used."""
    usage = make_usage()
    for place, (key_id, name) in enumerate(zip(IDS, NAMES, strict=True)):
        usage.keys.put("acme", KeyInfo(id=key_id, name=name, environment="test" if place % 3 == 2 else "live", owner="ada"))
    usage.keys.revoke("acme", "key_2")
    usage.keys.revoke("acme", LONG)
    callers = [*(key_member(key_id) for key_id in IDS[:-1]), "key_9", "W", ANONYMOUS]
    for place, key in enumerate(callers):
        for _ in range(place % 4 + 1):
            status = 200 if place % 2 else 404
            record_call(usage.recorder, ("acme", key), f"GET /v1/{place}", (), status, 900, 9, ())
    assert usage.flush()
    return usage


QUESTIONS = [
    f"/by-key?sort_by={sort_by}&sort_order={sort_order}&include_revoked={revoked}{page}{more}"
    for sort_by, sort_order, revoked, page, more in itertools.product(
        ("request_count", "error_count", "last_activity", "name"),
        ("asc", "desc"),
        ("true", "false"),
        ("", "&limit=3", "&limit=4&offset=2"),
        ("", "&environment=test", "&q=we"),
    )
]


def test_it_makes_no_difference_how_many_there_are(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HOSTS[4]
    api = Api(host, host.make(usage, auth=lambda _: Viewer.organization("acme"), cache_seconds=0, limit=None), ACME)

    def answers() -> dict[str, Any]:
        replies = {path: api.get(path) for path in QUESTIONS}
        assert {reply.status for reply in replies.values()} == {200}
        return {path: {**reply.json, "generated_at": None} for path, reply in replies.items()}

    few = answers()
    monkeypatch.setattr(known_keys, "FEW", 0)
    assert answers() == few
    for report in few.values():
        shown = sum(row["request_count"] for row in report["keys"])
        if report["pagination"] is None:
            assert shown + report["other"]["request_count"] == report["totals"]["request_count"]
    assert len(few["/by-key?sort_by=name&sort_order=asc&include_revoked=true"]["keys"]) == len(IDS) + 3


def test_no_record_is_read_of_keys_that_are_not_shown(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "FEW", 0)
    monkeypatch.delattr(KeyDirectory, "list")
    with watched(KeyDirectory, "of_members") as read:
        report: Any = usage.reader.by_key(org="acme", limit=2)
    known = {row.key_id for row in report.keys if row.owner == "ada"}
    assert 1 <= len(known) <= 2
    assert [set(some) for some in read] == [known]  # type: ignore[call-overload]


def test_one_that_is_removed_meanwhile_is_as_one_that_nobody_knows(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "FEW", 0)
    monkeypatch.setattr(KeyDirectory, "of_members", lambda *_: {})
    report: Any = usage.reader.by_key(org="acme", limit=10)
    assert {row.name for row in report.keys} == {None}


@given(st.text(max_size=20), st.text("ab", min_size=1))
def test_a_sort_key_has_the_name(name: str, member: str) -> None:
    found = keys.sort_key(name, member)
    assert (keys.name_of(found), keys.member_of(found)) == (name, member.encode())


@pytest.mark.parametrize("damaged", [b"", b"\xff\x00key_1", b"no member"])
def test_a_damaged_sort_key_has_some_name(damaged: bytes) -> None:
    assert isinstance(keys.name_of(damaged), str)
