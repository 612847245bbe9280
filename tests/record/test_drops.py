"""Every call is counted, waits, or was dropped for its organisation, and `stats()` says so at every moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import ResponseError

from tests.record.conftest import FaultyWriter, MakeRecorder
from tests.record.test_flusher import add, resolver, writer_of
from tests.support import Clock
from usage_middleware.events import CallerId
from usage_middleware.record.recorder import Recorder

Counted = Callable[..., int]
ORGS = ("acme", "globex", "initech")
DIGESTS = {bytes([number]) * 32: (org, "key_1", True) for number, org in enumerate(ORGS)}
CALLERS: tuple[CallerId, ...] = (*((org, "key_1") for org in ORGS), *DIGESTS)
STEPS = st.sampled_from(["call", "call", "call", "many", "flush", "away", "fault", "back", "directory", "late"])


def waiting(recorder: Recorder) -> Counter[str]:
    """The calls that a recorder holds, by organisation."""
    found: Counter[str] = Counter()
    sender = recorder._flusher.sender
    recorder._flusher.add_up()
    cells = [recorder._aggregate._cells, sender.parked.cells]
    for queue in sender.outbox.queues():
        cells += [queue.waiting, *(chunk.cells for chunk in queue.pending)] if queue.org != "*" else []
    for some in cells:
        for key, totals in some.items():
            found[DIGESTS[key.caller][0] if isinstance(key.caller, bytes) else key.caller[0]] += totals.calls
    return found


def check(recorder: Recorder, sent: Counter[str], counted: Counted, before: Counter[str]) -> None:
    """Sent = counted + waiting + dropped; drops of credentials that could not be resolved have no organisation yet."""
    held, stats = waiting(recorder), recorder.stats()
    missing = {org: sent[org] - counted(org) + before[org] - held[org] - stats.dropped.get(org, 0) for org in ORGS}
    assert all(calls >= 0 for calls in missing.values()), (missing, stats)
    assert sum(missing.values()) == stats.dropped_unresolved
    assert stats.backlog_calls == sum(held.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(STEPS, st.integers(0, 5)), min_size=10, max_size=60))
def test_sent_is_counted_waiting_or_dropped_at_every_moment(
    make_recorder: MakeRecorder, counted: Counted, clock: Clock, steps: list[tuple[str, int]]
) -> None:
    answers, sent = [True], Counter[str]()
    before = Counter({org: counted(org) for org in ORGS})

    def resolve(digests: Any) -> Any:
        if not answers[0]:
            raise RuntimeError("the directory is away")
        return resolver(DIGESTS)(digests)

    recorder = make_recorder(backlog_bytes=30_000, resolve=resolve)
    writer = writer_of(recorder)
    recorder._aggregate._crowded = lambda: None  # The thread would flush between two looks.
    for step, which in steps:
        if step in ("call", "many", "late"):
            for number in range(40 if step == "many" else 1):
                caller = CALLERS[which]
                add(recorder, caller, f"GET /{step}/{number}")
                sent[DIGESTS[caller][0] if isinstance(caller, bytes) else caller[0]] += 1
        elif step == "directory":
            answers[0] = not answers[0]
        else:
            writer.faults = _faults(step, writer)
            recorder.flush()
        check(recorder, sent, counted, before)
    answers[0], writer.faults = True, []
    while not recorder.flush():
        pass
    check(recorder, sent, counted, before)
    assert recorder.stats().dropped_unresolved == 0
    recorder.close()


def _faults(step: str, writer: FaultyWriter) -> list[tuple[str, Exception]]:
    """None of them lets a chunk through: what is in doubt is neither counted nor waiting for certain."""
    if step == "fault":
        return [("before", ResponseError("strange"))] * 8
    return [("before", Unreachable("closed"))] * 100 if step == "away" else []


def test_drops_of_one_organisation_with_many_keys_are_its_own(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder(backlog_bytes=1_000)
    recorder._aggregate._crowded = lambda: None
    for number in range(11_000):
        add(recorder, ("acme", f"key_{number}"))
    recorder._flusher.add_up()
    held = recorder.stats().backlog_calls
    assert recorder.stats().dropped == {"acme": 11_000 - held}
    assert recorder.flush()
    assert (counted("acme"), counted("acme", "dropped"), counted("*", "dropped")) == (held, 11_000 - held, 11_000 - held)


def test_drops_of_credentials_wait_until_it_is_known_whose_they_are(make_recorder: MakeRecorder, counted: Counted) -> None:
    answers = [False]

    def resolve(digests: Any) -> Any:
        assert answers[0]
        return resolver(DIGESTS)(digests)

    recorder = make_recorder(backlog_bytes=1_000, resolve=resolve)
    for number in range(50):
        add(recorder, CALLERS[4], f"GET /{number}")
    assert not recorder.flush()
    stats = recorder.stats()
    assert (stats.dropped, stats.dropped_unresolved + stats.backlog_calls) == ({}, 50)
    answers[0] = True
    assert recorder.flush()
    assert recorder.stats().dropped == {"globex": stats.dropped_unresolved}
    assert recorder.stats().dropped_unresolved == 0
    assert (counted("globex", "dropped"), counted("default", "dropped")) == (stats.dropped_unresolved, 0)


def test_drops_that_are_never_resolved_are_the_operators(make_recorder: MakeRecorder, counted: Counted, tmp_path: Path) -> None:
    def resolve(digests: Any) -> Any:
        raise RuntimeError("the directory is away")

    recorder = make_recorder(backlog_bytes=1_000, resolve=resolve, spool=tmp_path, shutdown_timeout=1e-9)
    for number in range(50):
        add(recorder, CALLERS[4], f"GET /{number}")
    assert not recorder.flush()
    dropped = recorder.stats().dropped_unresolved
    assert dropped > 0
    assert not recorder.close()
    assert recorder.stats().dropped_unresolved == dropped
