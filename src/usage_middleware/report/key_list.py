"""Which API keys the by-key view lists, used or not, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from usage_middleware.gil import LIGHT, yielding
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.report.key_rows import KeyRow, OtherKeys
from usage_middleware.report.known_keys import KnownKeys, Wanted
from usage_middleware.report.metrics import Tally
from usage_middleware.report.ordering import by_number, in_order
from usage_middleware.report.search import Search
from usage_middleware.store.replies import Boards
from usage_middleware.store.schema import CALLS

#: What is read of every key: no more than is shown or sorted by.
ERRORS = ("4xx", "5xx")
MEASURES = (CALLS, *ERRORS)
#: Of so many keys it is asked at once when they were last active.
_TOGETHER = 10_000


class Ordered(Wanted, Protocol):
    """Which keys are listed, and in which order."""

    @property
    def q(self) -> str | None:
        """Only those with this text in their name or id."""

    @property
    def sort_by(self) -> str:
        """`request_count`, `error_count`, `last_activity` or `name`."""

    @property
    def sort_order(self) -> str:
        """`asc` or `desc`."""


class KeyList(NamedTuple):
    """The keys of an organisation. There may be 100,000: of each there are its id, its name and its numbers.

    Attributes:
        known: those of the directory.
        used: calls and errors of those that were used: measure -> key -> number.
        unknown: those that were used, and that the directory does not know.
    """

    context: ReportContext
    scope: ReportScope
    known: KnownKeys
    used: Boards
    unknown: Sequence[str]

    @classmethod
    def of(cls, context: ReportContext, scope: ReportScope, known: KnownKeys, boards: Boards) -> KeyList:
        """The keys of the directory, and those that were used."""
        used = {measure: boards.get(measure, {}) for measure in MEASURES}
        keys = (key for numbers in used.values() for key in numbers)
        unknown = {key: None for key in yielding(keys, LIGHT) if key not in known}
        return cls(context, scope, known, used, list(unknown))

    def __len__(self) -> int:
        """How many there are, listed or not."""
        return len(self.known.names) + len(self.known.others) + len(self.unknown)

    def listed(self, wanted: Ordered) -> list[str]:
        """Those that are listed, in their order."""
        search, names = Search.of(wanted.q), self.known.names
        found = self._by_name(wanted)
        if search.text:
            found = [key for key in yielding(found, LIGHT) if search.finds(names.get(key, key), key)]
        falling = wanted.sort_order == "desc"
        if wanted.sort_by == "name":
            return found[::-1] if falling else found
        return by_number(found, self._number(wanted.sort_by, found), falling=falling)

    def _by_name(self, wanted: Ordered) -> list[str]:
        """By name, then id; the name of those that the directory does not know is their id."""
        if wanted.environment is not None or not self.unknown:
            return list(self.known.names)
        found, unknown, place = list[str](), in_order(self.unknown), 0
        for key, name in yielding(self.known.names.items(), LIGHT):
            while place < len(unknown) and (unknown[place], unknown[place]) < (name, key):
                found.append(unknown[place])
                place += 1
            found.append(key)
        return [*found, *unknown[place:]]

    def _number(self, sort_by: str, keys: Sequence[str]) -> Callable[[str], int]:
        if sort_by == "last_activity":
            seen = self._last_activity(keys)
            return lambda key: seen.get(key, 0)
        return self._errors if sort_by == "error_count" else self._calls

    def _calls(self, key: str) -> int:
        return self.used[CALLS].get(key, 0)

    def _errors(self, key: str) -> int:
        return sum(self.used[measure].get(key, 0) for measure in ERRORS)

    def _last_activity(self, keys: Sequence[str]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for begin in range(0, len(keys), _TOGETHER):
            batch = self.context.batch(self.scope.org)
            seen = batch.seen_of("key", keys[begin : begin + _TOGETHER])
            batch.read()
            found.update(seen.value)
        return found

    def rows(self, keys: Sequence[str]) -> list[KeyRow]:
        """What is known of some keys. One that is not there any more has no calls."""
        infos = self.known.infos_of(self.context, self.scope, keys)
        return [KeyRow(key, infos.get(key), Tally(calls=self._calls(key), errors=self._errors(key))) for key in keys]

    def other(self, rows: Iterable[KeyRow]) -> OtherKeys:
        """The keys that are not listed, together."""
        shown = [row for row in rows if row.key in self.known or any(row.key in numbers for numbers in self.used.values())]
        calls = sum(self.used[CALLS].values()) - sum(row.tally.calls for row in shown)
        errors = sum(sum(self.used[measure].values()) for measure in ERRORS) - sum(row.tally.errors for row in shown)
        return OtherKeys(request_count=calls, error_count=errors, keys=len(self) - len(shown))
