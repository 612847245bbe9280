"""Redis loses something between the end of a process and the next that sends its spool: its calls count once, or are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.record.conftest import MakeRecorder
from tests.record.test_flusher import add, writer_of
from tests.record.test_spool import DIGEST, Counted, end, recover, resolve
from tests.record.test_spool import add as add_credential
from tests.support import Clock
from usage_middleware.record.recorder import Recorder

Saved = dict[bytes, bytes]


def saved(client: Any, namespace: str) -> Saved:
    """Everything in a namespace, as a backup has it."""
    return {key: client.dump(key) for key in client.keys(f"{namespace}:*")}


def restored(client: Any, namespace: str, backup: Saved) -> None:
    """The backup is what Redis has."""
    client.delete(*client.keys(f"{namespace}:*"))
    for key, value in backup.items():
        client.restore(key, 0, value)


def lose_marks(client: Any, namespace: str) -> None:
    """As if they had been evicted."""
    client.delete(*client.keys(f"{namespace}:*:applied:*"))


class Ended:
    """A process that had 5 calls counted in two chunks, and left 3 in the spool, beside another that had 2 counted before.

    Attributes:
        before: a backup of before it began.
        between: one of after its first chunk.
    """

    def __init__(self, make_recorder: MakeRecorder, client: Any, namespace: str, away: Any, spool: Path) -> None:
        other = make_recorder()
        add(other, n=2)
        assert other.flush()
        way = [client]
        one = make_recorder(client=lambda: way[0], spool=spool, shutdown_timeout=1e-9)
        self.before = saved(client, namespace)
        add(one, n=4)
        assert one.flush()
        self.between = saved(client, namespace)
        add(one)
        assert one.flush()
        way[0] = away
        add(one, n=3)
        self._one: Recorder = one

    def end(self) -> None:
        """It ends."""
        end(self._one)


@pytest.fixture
def ended(make_recorder: MakeRecorder, client: Any, namespace: str, away: Any, tmp_path: Path) -> Ended:
    found = Ended(make_recorder, client, namespace, away, tmp_path)
    found.end()
    return found


@pytest.fixture
def heir(make_recorder: MakeRecorder, tmp_path: Path) -> Recorder:
    return make_recorder(spool=tmp_path)


@pytest.mark.parametrize("backup", ["before", "between"])
def test_a_backup_was_restored(
    ended: Ended, heir: Recorder, client: Any, namespace: str, counted: Counted, backup: str
) -> None:
    restored(client, namespace, getattr(ended, backup))
    for _ in range(2):
        recover(heir)
    assert (counted("acme"), counted("*"), heir.stats().dropped) == (10, 10, {})


def test_redis_has_forgotten_everything(ended: Ended, heir: Recorder, client: Any, namespace: str, counted: Counted) -> None:
    restored(client, namespace, {})
    for _ in range(2):
        recover(heir)
    assert (counted("acme"), counted("*"), heir.stats().dropped) == (8, 8, {})


def test_redis_has_forgotten_marks_alone(ended: Ended, heir: Recorder, client: Any, namespace: str, counted: Counted) -> None:
    """Nothing is counted twice. Whether what was not acknowledged had arrived, nobody knows: it is told as dropped."""
    lose_marks(client, namespace)
    for _ in range(2):
        recover(heir)
    assert (counted("acme"), counted("*")) == (7, 7)
    assert (counted("acme", "dropped"), heir.stats().dropped) == (3, {"acme": 3})


def test_a_journal_of_a_killed_worker_and_marks_that_were_evicted(
    make_recorder: MakeRecorder, client: Any, namespace: str, tmp_path: Path, counted: Counted
) -> None:
    """The journal has chunks that were counted, and lacks the acknowledgements."""
    one = make_recorder(spool=tmp_path, journal=True)
    add(one, n=4)
    assert one.flush()
    one._flusher.sender.note_acks = lambda: None  # type: ignore[method-assign]
    for _ in range(3):
        add(one)
        assert one.flush()
    for file in list(one._flusher.spool._open):  # type: ignore[union-attr]
        file.close()
    lose_marks(client, namespace)
    heir = make_recorder(spool=tmp_path)
    for _ in range(2):
        recover(heir)
    assert (counted("acme"), counted("*"), heir.stats().dropped) == (7, 7, {"acme": 3})


@pytest.mark.parametrize("backup", ["before", "between"])
def test_a_living_worker_and_a_backup_of_before_it_began(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted, backup: str
) -> None:
    """What it counted is sent again, and what had no answer too, though the organisation is older than the backup."""
    other = make_recorder()
    add(other, n=2)
    assert other.flush()
    before = saved(client, namespace)
    one = make_recorder()
    add(one, n=4)
    assert one.flush()
    between = saved(client, namespace)
    add(one)
    writer_of(one).faults = [("after", ConnectionError("reset"))] * 2
    assert not one.flush()
    restored(client, namespace, {"before": before, "between": between}[backup])
    assert one.flush()
    assert (counted("acme"), counted("*"), one.stats().dropped) == (7, 7, {})


@pytest.mark.parametrize("backup", [True, False])
def test_a_worker_that_ends_asks_whether_redis_has_lost_something(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted, backup: bool
) -> None:
    one = make_recorder()
    add(one, n=4)
    assert one.flush()
    before = saved(client, namespace) if backup else {}
    add(one, n=3)
    assert one.flush()
    restored(client, namespace, before)
    assert one.close()
    assert (counted("acme"), counted("*")) == (7, 7)
    assert not client.keys(f"{namespace}:*:applied:*")


def test_a_worker_that_ends_when_redis_has_just_gone_ends_all_the_same(
    make_recorder: MakeRecorder, client: Any, away: Any, counted: Counted
) -> None:
    way = [client]
    one = make_recorder(client=lambda: way[0])
    add(one, n=4)
    assert one.flush()
    way[0] = away
    assert one.close()
    assert counted("acme") == 4


def test_what_redis_loses_after_a_worker_has_ended_is_lost(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted
) -> None:
    one = make_recorder()
    add(one, n=4)
    assert one.flush()
    before = saved(client, namespace)
    add(one, n=3)
    assert one.close()
    restored(client, namespace, before)
    add(one)
    assert one.flush()
    assert (counted("acme"), counted("*")) == (5, 5)


@pytest.mark.parametrize(("days", "twice"), [(6, 0), (9, 3)])
def test_a_backup_brings_a_spool_back(
    make_recorder: MakeRecorder,
    client: Any,
    namespace: str,
    away: Any,
    tmp_path: Path,
    clock: Clock,
    counted: Counted,
    days: int,
    twice: int,
) -> None:
    """It counts once as long as Redis has the marks, which is 8 days. After that calls without a number count again."""
    one = make_recorder(client=away, spool=tmp_path, shutdown_timeout=1e-9)
    add(one, n=4)
    add_credential(one, DIGEST, n=3)
    (path,) = end(one)
    copy = path.read_bytes()
    two = make_recorder(spool=tmp_path, resolve=resolve)
    for _ in range(2):
        recover(two)
        clock.advance(11)
    assert not path.exists()
    clock.advance(days * 86_400)
    if days >= 8:
        lose_marks(client, namespace)
    path.write_bytes(copy)
    recover(two)
    assert (counted("acme"), counted("*")) == (7 + twice, 7 + twice)


def test_marks_and_those_who_had_them_are_evicted_together(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted
) -> None:
    one = make_recorder()
    add(one, n=4)
    assert one.flush()
    lose_marks(client, namespace)
    client.delete(*client.keys(f"{namespace}:*:marked"))
    add(one, n=3)
    assert one.flush()
    assert (counted("acme"), counted("*")) == (11, 11)
