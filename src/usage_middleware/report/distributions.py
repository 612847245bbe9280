"""Which endpoints each API key called: so many of them that the answer stays short, and that it can be read in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from usage_middleware.errors import QueryError
from usage_middleware.options import Settings
from usage_middleware.report.context import Members, ScopedReader
from usage_middleware.report.metrics import by_label
from usage_middleware.report.parameters import INVALID
from usage_middleware.store.members import OTHER
from usage_middleware.store.schema import CALLS

#: Label -> calls, the busiest first; the rest is `(other)`.
Distribution: TypeAlias = dict[str, int]

#: How many endpoints of each key are named where nobody says: the first of these with which the answer stays under 8 MB.
DEFAULTS = (20, 10, 5, 2)
_MOST_BYTES, _BYTES_A_KEY, _BYTES_AN_ENDPOINT = 8_000_000, 350, 145
#: How many keys are read together: what they all did is in memory for a moment.
_TOGETHER = 100
#: How many members of boards may be added up for one answer, and how many boards.
MOST_MEMBERS, MOST_BOARDS = 5_000_000, 200_000
#: What a call leaves on a board beside its endpoint, and what an endpoint may have there: calls, latency, a class of errors.
_LATENCIES, _MEASURES = 100, 3


def check(asked: int | None, limit: int | None) -> None:
    """Refuse a number that is possible for a page alone.

    Raises:
        QueryError: `invalid_parameter`.
    """
    if asked is not None and asked > DEFAULTS[0] and limit is None:
        message = f"endpoints_per_key must be a whole number from 0 to {DEFAULTS[0]} unless there is a limit="
        raise QueryError(INVALID, message, "endpoints_per_key")


def distributions(source: ScopedReader, calls: Mapping[str, int], asked: int | None) -> dict[str, Distribution]:
    """What each of these keys called, by its id; `calls` says how often each called at all.

    Raises:
        QueryError: `window_too_wide` where more was `asked` for than can be read.
    """
    most = _default(len(calls)) if asked is None else asked
    if most and not _can_be_read(source, calls):
        if asked is not None:
            raise QueryError(
                "window_too_wide",
                f"The endpoints of {len(calls)} keys can't be read at once in this window: ask for smaller pages with limit=, "
                "for endpoints_per_key=0, or for a shorter window.",
                "endpoints_per_key",
            )
        most = 0
    if most == 0:
        return {key: {OTHER: number} for key, number in calls.items()}
    found: dict[str, Distribution] = {}
    keys = list(calls)
    for begin in range(0, len(keys), _TOGETHER):
        found.update(_read(source, keys[begin : begin + _TOGETHER], most))
    return found


def _default(keys: int) -> int:
    fits = (number for number in DEFAULTS if keys * (_BYTES_A_KEY + number * _BYTES_AN_ENDPOINT) <= _MOST_BYTES)
    return next(fits, 0)


def _can_be_read(source: ScopedReader, calls: Mapping[str, int]) -> bool:
    """By the most that the boards can hold: what these calls can leave, or all endpoints in each slot."""
    slots, tags = len(source.slots), len(source.context.settings.dimensions)
    if len(calls) * slots > MOST_BOARDS:
        return False
    left_by_a_call = _MEASURES * (1 + tags) + 1
    if sum(calls.values()) * left_by_a_call <= MOST_MEMBERS:
        return True
    batch = source.context.batch(source.scope.org)
    known = batch.seen_count("endpoint")
    batch.read()
    of_all = slots * (_MEASURES * known.value + _LATENCIES)
    return sum(min(number * left_by_a_call, of_all + number * _MEASURES * tags) for number in calls.values()) <= MOST_MEMBERS


def _read(source: ScopedReader, keys: Sequence[str], most: int) -> dict[str, Distribution]:
    batch = source.context.batch(source.scope.org)
    boards = {key: batch.key_board(source.slots, key, endpoints=True) for key in keys}
    batch.read()
    settings = source.context.settings
    return {key: _distribution(board.value.members.get("endpoint", {}), settings, most) for key, board in boards.items()}


def _distribution(members: Members, settings: Settings, most: int) -> Distribution:
    calls = ((label, measures.get(CALLS, 0)) for label, measures in by_label(members, settings).items())
    ordered = sorted(calls, key=lambda row: (-row[1], row[0]))
    found, rest = dict(ordered[:most]), sum(number for _, number in ordered[most:])
    if rest:
        found[OTHER] = found.get(OTHER, 0) + rest
    return found
