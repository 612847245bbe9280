"""Breakdowns of a window: from the boards, or from the series of each member where boards can't follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usage_middleware.options import CounterKind
from usage_middleware.report.context import Members, ScopedReader, Series
from usage_middleware.report.metrics import board_measures, by_label
from usage_middleware.report.parts import Parts
from usage_middleware.report.window import Window
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.replies import Boards, by_measure
from usage_middleware.store.schema import BOARD_MEASURES, CALLS

#: The dimensions whose members have series of their own.
_SERIES: Mapping[str, CounterKind] = {"endpoint": "endpoint", "key": "key"}


def members(
    source: ScopedReader, window: Window, parts: Parts, dimension: str, measures: Sequence[str] = BOARD_MEASURES
) -> Deferred[Members] | None:
    """The measures of each member of a dimension; None where they are not kept for this window.

    From series, where boards are not kept: their half-hours live longer. Then all measures are there.
    """
    if parts.has(source.scope.board_kind):
        return source.members(dimension, measures)
    if source.scope.key is None and dimension in _SERIES and parts.has(_SERIES[dimension]):
        return _from_series(source, window, dimension)
    return None


def boards(
    source: ScopedReader, window: Window, parts: Parts, dimension: str, measures: Sequence[str] = BOARD_MEASURES
) -> Deferred[Boards] | None:
    """As `members`, the other way round: measure -> member -> number. Of 100,000 it takes a fifth of the memory."""
    if source.scope.key is None and parts.has(source.scope.board_kind):
        return source.batch.boards(source.slots, dimension, measures)
    found = members(source, window, parts, dimension, measures)
    return None if found is None else found.map(by_measure).kept()


def endpoints(source: ScopedReader, window: Window, parts: Parts, *fields: str) -> Deferred[Members] | None:
    """As `stored_endpoints`, under the labels that reports use."""
    found = stored_endpoints(source, window, parts, *fields)
    return None if found is None else found.map(lambda some: by_label(some, source.context.settings))


def stored_endpoints(source: ScopedReader, window: Window, parts: Parts, *fields: str) -> Deferred[Members] | None:
    """As `members`, of the endpoints under the names that are stored; `fields` are noted where they are not kept."""
    found = members(source, window, parts, "endpoint")
    if found is None:
        parts.offers(source.scope.board_kind, *fields)
    return found


def tagged(
    source: ScopedReader, parts: Parts, dimension: str, series: Deferred[Series], *fields: str
) -> Deferred[Members] | None:
    """The members of a declared dimension, which only boards know."""
    return source.tagged(dimension, series) if parts.offers(source.scope.board_kind, *fields) else None


def _from_series(source: ScopedReader, window: Window, dimension: str) -> Deferred[Members]:
    registry = source.context.batch(source.scope.org)
    seen = registry.seen(dimension)
    registry.read()
    candidates = [name for name, last_ms in seen.value.items() if last_ms >= window.start * 1000]
    return source.each_series(dimension, candidates).map(_measured)


def _measured(asked: Mapping[str, Series]) -> Members:
    found = {name: board_measures(series.values()) for name, series in asked.items() if series}
    return {name: measures for name, measures in found.items() if measures[CALLS]}
