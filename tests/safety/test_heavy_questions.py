"""Dear questions of a customer, alone and many at once: what they leave for the garbage collector, in bytes, and in refusals.

The largest organisation and the host's own requests meanwhile: `python3 run bench --only heavy`.
"""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import record_call
from tests.web.conftest import ACME
from tests.web.hosts import HOSTS, Api
from usage_middleware import KeyInfo, Viewer
from usage_middleware.report import known_keys
from usage_middleware.store.answer_cache import MAX_ANSWER
from usage_middleware.store.members import key_member
from usage_middleware.web import budget, encoding

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]
pytestmark = pytest.mark.slow
KEYS, ENDPOINTS = 1_000, 50
DATES = "start_date=2026-10-22&end_date=2026-11-20"
#: The dearest questions, and how many objects the garbage collector may have to look at for each when its answer is complete.
QUESTIONS = {
    "/by-key?period=30d": 200,
    "/by-key?period=30d&limit=1000&endpoints_per_key=1000&include_revoked=true": 200,
    "/by-group?group=key&range=30d&limit=1000": 200,
    f"/endpoints?{DATES}": 1_000,
    f"/endpoints?{DATES}&timezone=Asia/Kolkata": 1_000,
    f"/endpoints?{DATES}&bucketing_size=hour": 1_000,
    "/series?group=key&limit=50&granularity=hour&period=7d": 1_000,
    "/?timeframe=30d&limit=1000&compare=previous": 1_000,
}


@pytest.fixture
def api(make_usage: MakeUsage, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A customer with many keys; a machine that is busy keeps no question waiting in vain."""
    monkeypatch.setattr(budget, "MOST_SECONDS", 60)
    usage = make_usage(dimensions=("project",), counters=("records",))
    for number in range(KEYS):
        usage.keys.put("acme", KeyInfo(id=f"key_{number}", name=f"Key {number}"))
        record_call(
            usage.recorder, ("acme", key_member(f"key_{number}")), f"GET /v1/{number % ENDPOINTS}", ("a",), 200, 900, 9, (1,)
        )
    assert usage.flush()
    host = HOSTS[4]
    return Api(host, host.make(usage, auth=lambda _: Viewer.organization("acme"), cache_seconds=0, limit=None), ACME)


def test_an_answer_leaves_little_to_look_at(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection takes longer than any of the host's requests, and begins when a fourth of all objects are new."""
    found: list[int] = []

    def encode(report: Mapping[str, Any]) -> bytes:
        gc.collect()
        found.append(len(gc.get_objects()))
        return encoding_encode(report)

    encoding_encode = encoding.encode
    monkeypatch.setattr(encoding, "encode", encode)
    for path, most in QUESTIONS.items():
        assert api.get(path).status == 200
        gc.collect()
        before = len(gc.get_objects())
        reply = api.get(path)
        assert (reply.status, len(reply.body) <= MAX_ANSWER) == (200, True)
        assert found[-1] - before <= most, path


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_is_left_that_only_a_collection_frees(api: Api, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    """Answers and refusals take thousands of objects. Those that refer to each other in a circle would stay until then."""
    if refused:
        monkeypatch.setattr(budget.Budget, "_fits", lambda *_: False)
        monkeypatch.setattr(budget, "MOST_SECONDS", 0)
    for path in (*QUESTIONS, "/summary?typing=error", "/nowhere"):
        api.get(path)
        gc.collect()
        gc.disable()
        try:
            status = api.get(path).status
            assert (status, gc.collect()) == (429 if refused and path in QUESTIONS else status, 0), path
        finally:
            gc.enable()


def test_answers_set_off_few_collections(api: Api) -> None:
    """Ten of those that look at new objects set off one that looks at old ones, and ten of these one that looks at all."""
    found: list[int] = []

    def note(phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    for path in QUESTIONS:
        api.get(path)
    gc.collect()
    gc.callbacks.append(note)
    try:
        for path in QUESTIONS:
            assert api.get(path).status == 200
    finally:
        gc.callbacks.remove(note)
    assert len(found) <= 2 * len(QUESTIONS), found


#: How many bytes a question about all keys may take for each of them, at its peak.
BYTES_A_KEY = {
    "/by-key?period=30d&limit=10&endpoints_per_key=0": 1_000,
    "/by-key?period=30d&limit=10&endpoints_per_key=0&sort_by=last_activity&include_revoked=true": 1_000,
    "/by-group?group=key&range=30d&limit=10": 1_000,
}


def test_a_key_that_is_not_shown_takes_little_memory(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be 100,000 of them."""
    monkeypatch.setattr(known_keys, "FEW", 0)
    for path, most in BYTES_A_KEY.items():
        assert api.get(path).status == 200
        tracemalloc.start()
        try:
            assert api.get(path).status == 200
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak / KEYS <= most, path


def test_the_questions_of_a_page_are_answered_when_asked_at_once(api: Api) -> None:
    statuses: Counter[int] = Counter()
    threads = [threading.Thread(target=lambda path=path: statuses.update([api.get(path).status])) for path in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == {200: len(QUESTIONS)}
