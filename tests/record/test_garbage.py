"""What counting and flushing 5,000 series leaves to the garbage collector, in objects: none survives, few are allocated."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import pytest

from tests.record.conftest import MakeRecorder
from tests.support import Clock, record_call
from usage_middleware.record.recorder import Recorder

KEYS, ENDPOINTS = 1_000, 5
SERIES = KEYS * ENDPOINTS
DIGESTS = [blake2b(b"%d" % number, digest_size=32).digest() for number in range(KEYS)]
NAMES = {digest: ("acme", f"key_{number}", True) for number, digest in enumerate(DIGESTS)}


@pytest.fixture
def recorder(make_recorder: MakeRecorder) -> Recorder:
    return make_recorder(dimensions=("project",), counters=("records",), resolve=lambda digests: NAMES)


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generation of each collection."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Garbage is counted and not collected."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def count(recorder: Recorder) -> None:
    """A call of each series, in tuples of its own as requests make them."""
    project = "search"
    for digest in DIGESTS:
        for number in range(ENDPOINTS):
            record_call(recorder, digest, f"GET /{number}", (project,), 200, 1_000 + number, 50, (number + 1,))


def test_a_series_is_two_allocations(recorder: Recorder, uncollected: None) -> None:
    """Its bins and its counts, and the name of each caller. What a flush allocates besides, it frees."""
    for _ in range(2):  # The first one fills caches.
        before = gc.get_count()[0]
        count(recorder)
        recorded = gc.get_count()[0]
        assert recorder.flush()
    assert recorded - before < 2 * SERIES + 200
    assert gc.get_count()[0] - recorded < KEYS + 500


def test_what_waits_and_is_kept_is_not_tracked(recorder: Recorder, collections: list[int], clock: Clock) -> None:
    recorder.flush()
    gc.collect()
    collections.clear()
    before = len(gc.get_objects())
    for _ in range(6):
        count(recorder)
        assert recorder.flush()
        clock.advance(5)
    assert 2 not in collections
    assert collections.count(1) < 12
    gc.collect(1)
    assert len(gc.get_objects()) - before < 500
