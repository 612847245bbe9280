"""What the caps refused a moment ago is known without asking, for a while, within a bound."""

from __future__ import annotations

from tests.store.cells import cell, cells
from tests.support import Clock
from usage_middleware.options import Settings
from usage_middleware.record import overflow
from usage_middleware.record.overflow import OverflowCache, substitute
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.schema import Schema

SCHEMA = Schema(Settings(dimensions=("project",)))


def test_refusals_are_remembered_for_a_minute() -> None:
    clock = Clock(100.0)
    refusals = OverflowCache(clock)
    refusals.remember("acme", "key", {"a", "b"})
    clock.advance(59)
    assert refusals.of("acme", "key", {"a", "c"}) == {"a"}
    assert refusals.of("globex", "key", {"a"}) == set()
    clock.advance(1)
    assert refusals.of("acme", "key", {"a"}) == set()


def test_refusals_are_bounded() -> None:
    refusals = OverflowCache(Clock(0.0))
    for number in range(overflow.MOST_REFUSED + 10):
        refusals.remember("acme", "key", {str(number)})
    assert len(refusals._until) <= overflow.MOST_REFUSED


def test_what_was_refused_is_other() -> None:
    refusals = OverflowCache(Clock(0.0))
    chunk = Chunk("acme", 1, cells([cell(tags=("x",)), cell(key="key_8", tags=("y",))]))
    assert refusals.apply(SCHEMA, chunk, ()) is chunk
    refusals.remember("globex", "key", {"key_7"})
    assert refusals.apply(SCHEMA, chunk, ()) is chunk
    refusals.remember("acme", "key", {"key_7", "key_8"})
    refusals.remember("acme", "project", {"y"})
    changed = refusals.apply(SCHEMA, chunk, {"key_8"})
    assert [(one.owner[1], one.tags) for one in changed.cells] == [("(other)", ("x",)), ("key_8", ("(other)",))]
    assert changed.number == 1


def test_in_the_operators_tree_organisations_are_members() -> None:
    refusals = OverflowCache(Clock(0.0))
    refusals.remember("*", "org", {"acme"})
    changed = refusals.apply(SCHEMA, Chunk("*", 1, cells([cell(tags=("x",)), cell(org="globex", tags=("x",))])), ())
    assert [one.owner[0] for one in changed.cells] == ["(other)", "globex"]


def test_refused_members_become_other() -> None:
    chunk = Chunk("acme", 4, cells([cell(tags=("x",)), cell(key="ok", tags=("y",))]))
    refused = {"key": {"key_7"}, "endpoint": {"GET /v1/items"}, "project": {"y"}}
    found = substitute(SCHEMA, chunk, refused)
    assert [(one.endpoint, one.owner[1], one.tags) for one in found.cells] == [
        ("GET (other)", "(other)", ("x",)),
        ("GET (other)", "ok", ("(other)",)),
    ]
    assert next(iter(chunk.cells)).owner[1] == "key_7"
    whole = substitute(SCHEMA, chunk._replace(org="*"), {"org": {"acme"}})
    assert [one.owner for one in whole.cells] == [("(other)", "key_7"), ("(other)", "ok")]
