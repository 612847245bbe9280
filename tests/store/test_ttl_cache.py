"""What was found out lately is remembered for a while, and not against better knowledge."""

from __future__ import annotations

from tests.support import Clock
from usage_middleware.store.ttl_cache import TTLCache


def test_an_answer_is_remembered_for_its_time(clock: Clock) -> None:
    memory: TTLCache[str, int] = TTLCache(clock, seconds=60, size=10)
    memory.keep({"a": 1}, memory.generation)
    clock.advance(59)
    assert memory.known(["a", "b"]) == {"a": 1}
    clock.advance(1)
    assert memory.known(["a"]) == {}


def test_a_clock_that_was_set_back_makes_nothing_last_longer(clock: Clock) -> None:
    memory: TTLCache[str, int] = TTLCache(clock, seconds=60, size=10)
    memory.keep({"a": 1}, memory.generation)
    clock.advance(-1)
    assert memory.known(["a"]) == {}


def test_the_oldest_answers_make_room(clock: Clock) -> None:
    memory: TTLCache[str, int] = TTLCache(clock, seconds=60, size=2)
    memory.keep({"a": 1, "b": 2}, memory.generation)
    memory.keep({"a": 3, "c": 4}, memory.generation)
    assert memory.known(["a", "b", "c"]) == {"a": 3, "c": 4}
    assert len(memory) == 2


def test_what_was_asked_for_before_a_change_is_not_kept_after_it(clock: Clock) -> None:
    memory: TTLCache[str, int] = TTLCache(clock, seconds=60, size=2)
    asked_at = memory.generation
    memory.clear()
    memory.keep({"a": 1}, asked_at)
    assert memory.known(["a"]) == {}
