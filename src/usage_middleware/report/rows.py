"""The rows of a group over time: which there are, what each came to in the window, and what each is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from usage_middleware.lazily import cached
from usage_middleware.options import NONE, CounterKind, Settings
from usage_middleware.report.cells import (
    BucketReads,
    Endpoints,
    Member,
    MembersOfKey,
    OneKey,
    Status,
    Subject,
    Untagged,
)
from usage_middleware.report.context import Members, ReportContext, ReportScope, ScopedReader
from usage_middleware.report.measure import Cell, Measure
from usage_middleware.report.metrics import by_status, label_of, summed
from usage_middleware.report.parts import Parts
from usage_middleware.report.window import Window
from usage_middleware.store.members import method_of
from usage_middleware.store.schema import CALLS

ENDPOINT, KEY = "endpoint", "key"


class Rows(NamedTuple):
    """The rows that had calls in the window.

    Attributes:
        cells: what each came to.
        subjects: what some of them are read from.
    """

    cells: Mapping[str, Cell]
    subjects: Callable[[Sequence[str]], dict[str, Subject]]


class WholeWindow:
    """Reads what rows come to in the whole window, to tell which are the greatest."""

    def __init__(self, context: ReportContext, scope: ReportScope, window: Window, measure: Measure) -> None:
        self.context = context
        self.scope = scope
        self.window = window
        self.measure = measure
        self.slots = window.slots(context.settings.layers)

    @cached
    def has_boards(self) -> bool:
        """True where the boards of the organisation have this measure of this window."""
        return bool(self.measure.board) and Parts(self.window, self.context.settings).has("board")

    def source(self) -> ScopedReader:
        """A reader of all that the scope has over the window."""
        return ScopedReader(self.context, self.scope, self.slots)

    def members(self, dimension: str) -> Members:
        """The measures of each member, from boards."""
        source = self.source()
        found = source.members(dimension, self.measure.board)
        source.read()
        return found.value

    def known(self, dimension: str) -> list[str]:
        """The members that may have calls in the window."""
        batch = self.context.batch(self.scope.org)
        seen = batch.seen(dimension)
        batch.read()
        return [name for name, last_ms in seen.value.items() if last_ms >= self.window.start * 1000]

    def cells(self, subjects: Mapping[str, Subject]) -> dict[str, Cell]:
        """What each subject came to; those without calls are absent."""
        reads = BucketReads(self.context.batch(self.scope.org), lambda: [self.slots], self.measure)
        found = reads.read(list(subjects.values()))
        return {name: cell for name, (cell,) in zip(subjects, found, strict=True) if self.measure.is_used(cell)}


class Group(Protocol):
    """A way to tell calls apart."""

    def kind(self, measure: Measure) -> CounterKind:
        """The counters that its rows are read from."""

    def rows(self, whole: WholeWindow) -> Rows:
        """Its rows."""


class Alone(NamedTuple):
    """All calls as one row."""

    name: str
    subject: Subject

    def kind(self, measure: Measure) -> CounterKind:
        """The subject's."""
        return self.subject.kind(measure)

    def rows(self, whole: WholeWindow) -> Rows:
        """One, or none where there were no calls."""
        subjects = {self.name: self.subject}
        return Rows(whole.cells(subjects), lambda names: {name: subjects[name] for name in names})


class ByStatus(NamedTuple):
    """By status code."""

    subject: Subject

    def kind(self, measure: Measure) -> CounterKind:
        """The subject's."""
        return self.subject.kind(measure)

    def rows(self, whole: WholeWindow) -> Rows:
        """The status codes that were seen."""
        codes = by_status(whole.cells({"": self.subject}).values())
        cells = {str(status): {CALLS: calls} for status, calls in codes.items() if calls}
        return Rows(cells, lambda names: {name: Status(self.subject, int(name)) for name in names})


class ByEndpoint(NamedTuple):
    """By endpoint, or by something that follows from it.

    Attributes:
        row_of: the row of an endpoint: its label, its method.
        only: the endpoints that are asked for; None: all.
        key: within one key.
    """

    row_of: Callable[[str], str]
    only: tuple[str, ...] | None
    key: str | None

    def kind(self, measure: Measure) -> CounterKind:
        """Of the endpoints' series, or of the board under the key."""
        return self._subject(()).kind(measure)

    def rows(self, whole: WholeWindow) -> Rows:
        """From boards where they are kept, else from the series of every endpoint."""
        if self.key is None and not whole.has_boards:
            under = self._under(whole.known(ENDPOINT))
            return Rows(whole.cells(self._subjects(under, list(under))), lambda names: self._subjects(under, names))
        members = whole.members(ENDPOINT)
        under = self._under(members)
        cells = {row: summed(members[name] for name in names) for row, names in under.items()}
        return Rows(cells, lambda names: self._subjects(under, names))

    def _under(self, endpoints: Iterable[str]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name in endpoints:
            if self.only is None or name in self.only:
                found[self.row_of(name)] = (*found.get(self.row_of(name), ()), name)
        return found

    def _subjects(self, under: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> dict[str, Subject]:
        return {name: self._subject(under[name]) for name in names}

    def _subject(self, endpoints: tuple[str, ...]) -> Subject:
        return Endpoints(endpoints) if self.key is None else MembersOfKey(self.key, ENDPOINT, endpoints)


class ByKey(NamedTuple):
    """By API key; `only`: the endpoints that are asked for."""

    only: tuple[str, ...] | None

    def kind(self, measure: Measure) -> CounterKind:
        """Of the keys' series; what a key did at one endpoint stands on the board under it."""
        return self._subject("").kind(measure)

    def rows(self, whole: WholeWindow) -> Rows:
        """From boards where they are kept, else from the series of every key."""
        if self.only is None and whole.has_boards:
            return Rows(whole.members(KEY), self._subjects)
        return Rows(whole.cells(self._subjects(whole.known(KEY))), self._subjects)

    def _subjects(self, names: Sequence[str]) -> dict[str, Subject]:
        return {name: self._subject(name) for name in names}

    def _subject(self, key: str) -> Subject:
        return OneKey(key) if self.only is None else MembersOfKey(key, ENDPOINT, self.only)


class ByDimension(NamedTuple):
    """By a declared dimension, or by organisation."""

    dimension: str
    subject: Subject
    is_declared: bool

    def kind(self, _: Measure) -> CounterKind:
        """Boards."""
        return "key_board" if isinstance(self.subject, OneKey) else "board"

    def rows(self, whole: WholeWindow) -> Rows:
        """Its members; calls from before it was declared are `(none)`."""
        source = whole.source()
        found = source.tagged(self.dimension, source.series()) if self.is_declared else source.members(self.dimension)
        source.read()
        is_partial = self.is_declared and source.began_before(self.dimension)
        return Rows(found.value, lambda names: self._subjects(names, is_partial=is_partial))

    def _subjects(self, names: Sequence[str], *, is_partial: bool) -> dict[str, Subject]:
        subjects = {name: self._member(name, tuple(names)) for name in names}
        if is_partial and NONE in subjects:
            subjects[NONE] = Untagged(self.subject, self.dimension)
        return subjects

    def _member(self, name: str, among: tuple[str, ...]) -> Subject:
        if isinstance(self.subject, OneKey):
            return MembersOfKey(self.subject.key, self.dimension, (name,))
        return Member(self.dimension, name, among)


def by_label(settings: Settings, only: tuple[str, ...] | None, key: str | None) -> ByEndpoint:
    """Endpoints under the labels that reports use."""
    return ByEndpoint(lambda endpoint: label_of(endpoint, settings), only, key)


def by_method(only: tuple[str, ...] | None, key: str | None) -> ByEndpoint:
    """Endpoints by their HTTP method."""
    return ByEndpoint(method_of, only, key)
