"""What workers may still have to deliver, as they tell Redis: so that a window can be called final."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.exceptions import ConnectionError as Unreachable

from tests.record.conftest import AT_ONCE, MakeRecorder
from tests.record.test_flusher import add, writer_of
from tests.support import START, Clock
from usage_middleware.store.owing import Debt, debts, is_final

NOW = int(START * 1000)
DAY = 86_400_000


def owing(client: Any, namespace: str) -> list[Debt]:
    """What Redis says."""
    return debts(client.hgetall(f"{namespace}:{{*}}:owing"))


def test_a_living_worker_owes_what_it_has_not_acknowledged(
    make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock
) -> None:
    recorder = make_recorder()
    add(recorder)
    clock.advance(5)
    assert recorder.flush()
    worker = recorder.stats().worker
    assert owing(client, namespace) == [Debt(worker, NOW, NOW + 5_000, NOW + 5_000)]
    assert recorder.close()
    assert owing(client, namespace) == []


def test_a_spool_is_owed_until_it_is_sent(
    make_recorder: MakeRecorder, client: Any, namespace: str, tmp_path: Path, clock: Clock
) -> None:
    one = make_recorder(spool=tmp_path, shutdown_timeout=AT_ONCE)
    add(one)
    assert one.flush()
    add(one)
    writer_of(one).faults = [("before", Unreachable("closed"))] * 100
    worker = one.stats().worker
    assert not one.close()
    assert [debt.worker for debt in owing(client, namespace)] == [worker]
    two = make_recorder(spool=tmp_path)
    add(two)
    assert two.flush()
    two._flusher.recover(lambda: True, now=True)
    assert two.flush()
    assert [debt.worker for debt in owing(client, namespace)] == [two.stats().worker]


def test_a_killed_worker_is_ignored_after_seven_days_and_removed(
    make_recorder: MakeRecorder, client: Any, namespace: str
) -> None:
    recorder = make_recorder(routes=lambda: {"GET /a": True})
    client.hset(f"{namespace}:{{*}}:owing", mapping={"old": f"1 2 {NOW - 8 * DAY}", "new": f"1 2 {NOW}", "odd": "?"})
    add(recorder)
    assert recorder.flush()
    assert {debt.worker for debt in owing(client, namespace)} == {"new", recorder.stats().worker}


def test_when_a_window_is_final() -> None:
    through = Debt("a", NOW - DAY, NOW, NOW)
    assert is_final([through], NOW, NOW)
    assert not is_final([through], NOW + 1, NOW)
    assert not is_final([through._replace(through_ms=NOW - 1)], NOW, NOW)
    assert is_final([through._replace(began_ms=NOW, through_ms=NOW - 1)], NOW, NOW)
    killed = Debt("a", NOW - DAY, NOW - 2, NOW)
    assert not is_final([killed], NOW, NOW + 7 * DAY)
    assert is_final([killed], NOW, NOW + 7 * DAY + 1)
    assert is_final([killed._replace(beat_ms=NOW + 8 * DAY)], NOW, NOW + 8 * DAY)


def test_what_another_version_writes_is_left_out() -> None:
    assert debts({b"a": b"1 2", b"b": b"1 2 x", b"c": b"1 2 3"}) == [Debt("c", 1, 2, 3)]
