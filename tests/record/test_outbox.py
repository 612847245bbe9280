"""Calls wait, are cut into numbered chunks, and are kept until Redis surely has them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from tests.store.cells import MINUTE, Cell, cell, lists_of_cells
from usage_middleware.options import Settings
from usage_middleware.record.outbox import SENT_SECONDS, Moment, OrgQueue, Outbox
from usage_middleware.store.rollup import expand
from usage_middleware.store.schema import Schema

NOW = MINUTE + 20
SCHEMA = Schema(Settings())


def queue_of(*given_cells: Cell) -> OrgQueue:
    queue = OrgQueue(SCHEMA, "acme")
    for one in given_cells:
        queue.put(*one)
    queue.seal(NOW)
    return queue


def at(seconds: float) -> Moment:
    return Moment(NOW + seconds, seconds)


def numbers(queue: OrgQueue) -> tuple[list[int], list[int]]:
    return [chunk.number for chunk in queue.pending], [chunk.number for _, chunk in queue.retained]


def test_rows_that_are_alike_are_added_up_while_they_wait() -> None:
    queue = queue_of(cell(), cell(bins={73: 1, 2: 1}, calls=2), cell(status=404))
    (chunk,) = queue.pending
    assert [(key.status, totals.calls, totals.bins) for key, totals in chunk.cells.items()] == [
        (200, 3, {73: 2, 2: 1}),
        (404, 1, {73: 1}),
    ]


def test_chunks_are_cut_by_rows_of_about_2500_increments() -> None:
    given_cells = [cell(key=f"key_{number % 50}", endpoint=f"GET /{number}") for number in range(500)]
    queue = queue_of(*given_cells)
    sizes = [expand(SCHEMA, chunk, NOW).increments for chunk in queue.pending]
    assert [chunk.number for chunk in queue.pending] == list(range(1, len(sizes) + 1))
    assert sum(len(chunk.cells) for chunk in queue.pending) == 500
    assert all(1_500 <= size <= 2_700 for size in sizes[:-1])


@settings(max_examples=30, deadline=None)
@given(lists_of_cells())
def test_no_row_is_lost_or_cut(given_cells: list[Cell]) -> None:
    queue = OrgQueue(Schema(Settings(dimensions=("project",), counters=("records",))), "acme")
    calls = sum(totals.calls for _, totals in given_cells)
    for one in given_cells:
        queue.put(*one)
    before = queue.bytes
    queue.seal(NOW)
    assert sum(chunk.calls for chunk in queue.pending) == calls == queue.calls()
    assert queue.bytes == before
    while queue.pending:
        queue.acknowledge(at(0))
    queue.release(20)
    assert queue.bytes == 0


def test_late_calls_are_dropped_and_counted() -> None:
    queue = OrgQueue(SCHEMA, "acme")
    queue.put(*cell())
    queue.put(*cell(minute=MINUTE - 900 * 86400, calls=3))
    assert queue.seal(NOW) == 3
    (chunk,) = queue.pending
    assert (len(chunk.cells), chunk.dropped) == (1, 3)


def test_drops_alone_are_a_chunk() -> None:
    queue = OrgQueue(SCHEMA, "acme")
    queue.dropped = 2
    assert queue.has_news
    queue.seal(NOW)
    assert [(chunk.cells, chunk.dropped) for chunk in queue.pending] == [({}, 2)]


def queue_of_five() -> OrgQueue:
    queue = OrgQueue(SCHEMA, "acme")
    for number in range(5):
        queue.put(*cell(endpoint=f"GET /{number}"))
        queue.seal(NOW)
    return queue


def test_acknowledged_chunks_are_kept_for_ten_seconds() -> None:
    queue = queue_of_five()
    queue.acknowledge(at(100))
    queue.acknowledge(at(105))
    assert numbers(queue) == ([3, 4, 5], [1, 2])
    queue.acknowledge(at(110))
    assert numbers(queue) == ([4, 5], [2, 3])
    assert queue.acked == 3


def test_what_redis_forgot_is_sent_again_in_order() -> None:
    queue = queue_of_five()
    for _ in range(4):
        queue.acknowledge(at(100))
    queue.rewind(2, at(200))
    assert numbers(queue) == ([3, 4, 5], [1, 2])
    assert queue.acked == 2


def test_what_redis_already_has_is_not_sent() -> None:
    queue = queue_of_five()
    queue.rewind(3, at(200))
    assert numbers(queue) == ([4, 5], [])
    assert queue.acked == 3


def test_what_was_acknowledged_so_long_ago_that_redis_may_have_forgotten_it_is_not_sent_again() -> None:
    """Whichever clock went on: a machine may have been suspended."""
    for later in at(100)._replace(wall=NOW + 100 + SENT_SECONDS), at(100)._replace(monotonic=100 + SENT_SECONDS):
        queue = queue_of_five()
        for _ in range(4):
            queue.acknowledge(at(100))
        queue.rewind(0, later)
        assert numbers(queue) == ([5], [])


def test_giving_up_what_another_process_may_have_sent() -> None:
    restored, given = OrgQueue(SCHEMA, "acme", 5), queue_of_five()
    restored.restore(given.pending, ())
    restored.put(*cell())
    restored.seal(NOW)
    before = restored.bytes
    assert restored.give_up_doubtful() == 5
    assert [(chunk.number, chunk.calls, chunk.dropped) for chunk in restored.pending] == [
        *((number, 0, 1) for number in range(1, 6)),
        (6, 1, 0),
    ]
    assert 0 < restored.bytes < before


def test_giving_up_keeps_the_number_and_counts_the_calls_as_dropped() -> None:
    queue = queue_of_five()
    assert queue.give_up() == 1
    assert (queue.pending[0].number, queue.pending[0].cells, queue.pending[0].dropped) == (1, {}, 1)
    assert queue.give_up() == 0
    assert numbers(queue)[0] == [2, 3, 4, 5]


def test_the_operator_sees_the_same_calls_without_keys() -> None:
    found = Outbox(Schema(Settings()))
    for one in cell(), cell(key="key_8"), cell(org="globex"), cell(key="key_8", status=500):
        found.put(*one)
    assert {queue.org for queue in found.queues()} == {"acme", "globex", "*"}
    whole = found.queue("*")
    assert Counter({(*key.owner, key.status): totals.calls for key, totals in whole.waiting.items()}) == {
        ("acme", "", 200): 2,
        ("globex", "", 200): 1,
        ("acme", "", 500): 1,
    }
    assert found.calls == 4


def test_without_the_operators_tree() -> None:
    found = Outbox(Schema(Settings(operator_tree=False)))
    found.put(*cell())
    found.drop("acme", 1)
    found.drop("*", 1)
    assert [queue.org for queue in found.queues()] == ["acme"]


def test_numbers_outlive_their_queue() -> None:
    found = Outbox(SCHEMA)
    found.put(*cell())
    for queue in found.queues():
        queue.seal(NOW)
        queue.acknowledge(at(0))
    found.tidy()
    assert len(found.queues()) == 2
    for queue in found.queues():
        queue.release(10)
    found.tidy()
    assert found.queues() == []
    assert found.bytes == 0
    assert sorted(found.organisations()) == ["*", "acme"]
    found.put(*cell())
    found.queue("acme").seal(NOW)
    assert found.queue("acme").pending[0].number == 2
    assert found.queue("acme").acked == 1
