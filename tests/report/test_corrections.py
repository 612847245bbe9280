"""The list of corrections: what was corrected, when and why, for operators alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.support import START, Clock
from usage_middleware import Usage, Viewer
from usage_middleware.errors import QueryError
from usage_middleware.report import corrections as report
from usage_middleware.report.corrections import Correction

MakeUsage = Callable[..., Usage]
DAY = 86_400
CALL: dict[str, Any] = {"key": "key_1", "endpoint": "GET /a", "status": 200, "calls": 3, "reason": "an import of March"}


@pytest.fixture
def usage(make_usage: MakeUsage, clock: Clock) -> Usage:
    made = make_usage(dimensions=("project",), counters=("records",))
    for days, org, id in ((0, "acme", "1"), (1, "globex", "1"), (40, "acme", "a:b"), (400, "acme", "old")):
        made.correct(org, id=id, at=START - days * DAY, **CALL)
    return made


def listed(usage: Usage, org: str | None = None, **window: Any) -> list[tuple[str, str]]:
    return [(one.org, one.id) for one in usage.reader.corrections(org=org, **window).corrections]


def test_a_correction_is_listed_as_it_was_given(make_usage: MakeUsage, clock: Clock) -> None:
    usage = make_usage(dimensions=("project",), counters=("records",))
    call: dict[str, Any] = {**CALL, "key": None, "tags": {"project": "search"}}
    usage.correct("a:b", id="c:1", at=START - 60.5, **call)
    assert usage.correct("a:b", id="c:2", at=START - 60.5, **{**call, "calls": 0}, bytes=9, latency_ms=1.5)
    for org in (None, "a:b"):
        found = usage.reader.corrections(org=org)
        assert found.org == org
        assert found.corrections[1] == Correction(
            org="a:b", id="c:2", at="2026-11-20T13:44:19.500Z", made_at="2026-11-20T13:45:20Z", reason="an import of March",
            key_id="(anonymous)", endpoint="GET /a", status=200, calls=0, counts={}, tags={"project": "search"}, bytes=9,
            latency_ms=1.5,
        )  # fmt: skip
        assert [one.id for one in found.corrections] == ["c:1", "c:2"]


def test_the_latest_calls_come_first(usage: Usage) -> None:
    assert listed(usage) == [("acme", "1"), ("globex", "1"), ("acme", "a:b"), ("acme", "old")]
    assert listed(usage, "acme") == [("acme", "1"), ("acme", "a:b"), ("acme", "old")]
    assert listed(usage, "nobody") == []


def test_those_of_a_window(usage: Usage) -> None:
    assert listed(usage, start=int(START) - DAY) == [("acme", "1"), ("globex", "1")]
    assert listed(usage, start=int(START) - DAY, end=int(START)) == [("globex", "1")]
    assert listed(usage, start=date(2026, 10, 1), end=date(2026, 11, 1)) == [("acme", "a:b")]
    assert listed(usage, start=date(1970, 1, 1)) == listed(usage)
    assert listed(usage, end=date(8000, 1, 1)) == listed(usage)
    assert listed(usage, start=date(7999, 1, 1), end=date(8000, 1, 1)) == []
    with pytest.raises(QueryError, match="end must be after start"):
        listed(usage, start=5, end=5)


def test_more_than_can_be_listed(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_LISTED", 3)
    with pytest.raises(QueryError, match="ask for one organisation, or a shorter window") as refused:
        usage.reader.corrections()
    assert refused.value.code == "answer_too_large"
    assert len(listed(usage, "acme")) == 3


def test_only_operators_may_look(usage: Usage) -> None:
    for viewer in (Viewer.organization("acme"), Viewer.key("acme", "key_1")):
        with pytest.raises(QueryError, match="Only operators"):
            usage.reader.corrections(viewer, org="acme")


def test_backfilled_rows_are_not_listed(usage: Usage) -> None:
    before = listed(usage)
    usage.backfill([{**CALL, "org": "acme", "id": "1", "at": START}])
    assert listed(usage) == before


def test_without_the_operators_tree(make_usage: MakeUsage) -> None:
    usage = make_usage(operator_tree=False)
    usage.correct("acme", id="1", at=START, **CALL)
    assert listed(usage, "acme") == [("acme", "1")]
    with pytest.raises(QueryError) as refused:
        usage.reader.corrections()
    assert refused.value.code == "missing_org"


def test_a_damaged_one_does_not_hide_the_others(usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    client, name = usage.engine.client, f"{usage.settings.namespace}:{{acme}}:corrections:2026-11"
    for number, damaged in enumerate((b"", b"\xff", b"0123456789abcdef {", b"0123456789abcdef []")):
        client.hset(name, f"damaged {number}", damaged)
    assert listed(usage, "acme") == [("acme", "1"), ("acme", "a:b"), ("acme", "old")]
    assert caplog.text.count("is damaged in Redis") == 4
