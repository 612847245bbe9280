"""A correction, or a row of a backfill, as it is given: checked field by field, and turned into what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from usage_middleware.errors import RowRefused
from usage_middleware.events import MAX_COUNT, CallKey, CallTotals
from usage_middleware.latency import LAST_BIN, bin_of
from usage_middleware.options import NONE, Settings
from usage_middleware.periods import MINUTE
from usage_middleware.store.members import (
    ANONYMOUS,
    METHODS,
    OPERATOR,
    OTHER_METHOD,
    endpoint_member,
    member_from_request,
    org_member,
)

#: How many bytes of text an id may have, and a reason.
MOST_ID, MOST_REASON = 128, 1_000
#: Calls and milliseconds of one row. What is counted of thousands of rows together still fits into 64 bits.
MOST_CALLS = 10**9
MOST_MS = 10**11
#: The clocks of machines differ a little, seconds.
AHEAD = 5.0
#: Thousands of years; more would not even be a date.
MOST_SECONDS = 10**11

REQUIRED = ("org", "id", "at", "key", "endpoint", "status", "calls")
OPTIONAL = ("reason", "counts", "tags", "bytes", "latency_ms", "latency_bins")
_FIELDS = frozenset((*REQUIRED, *OPTIONAL))


class Row(NamedTuple):
    """What is counted under one id.

    Attributes:
        place: which row of a backfill, counted from 0; None of a correction.
        id: under which it is counted once in its tree.
        at_ms: when the calls finished, milliseconds since 1970.
        record: what is kept under the id: a hash of the content, of a correction also the content.
    """

    place: int | None
    id: str
    at_ms: int
    key: CallKey
    totals: CallTotals
    record: str

    @property
    def org(self) -> str:
        """The organisation, as a member."""
        return self.key.owner[0]

    def is_kept_as(self, record: str) -> bool:
        """Whether a record is of the same content."""
        return record.partition(" ")[0] == self.record.partition(" ")[0]


class RowReader:
    """Reads rows for one `Usage`; `clock` gives seconds since 1970."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock

    def correction(self, given: Mapping[str, Any]) -> Row:
        """A correction: its amounts may be below 0.

        Raises:
            RowRefused: naming the field.
        """
        reason = _text("reason", given["reason"], MOST_REASON)
        calls = _whole("calls", given["calls"], -MOST_CALLS, MOST_CALLS)
        row = self._row(given, None, calls, reason)
        if not any((calls, row.totals.latency_us, row.totals.sent, *row.totals.counts)):
            raise RowRefused("invalid_row", "it changes nothing: calls, bytes, latency_ms and counts are all 0", "calls")
        return row

    def backfilled(self, given: object, place: int) -> Row:
        """A row of a backfill: its amounts are 0 or more, and it has calls.

        Raises:
            RowRefused: naming the row and the field.
        """
        try:
            row = self._row(_mapping(given), place, _whole("calls", _mapping(given).get("calls"), 1, MOST_CALLS), None)
            if row.totals.latency_us < 0:
                raise _wrong("latency_ms", "0 or more", row.totals.latency_us / 1000)
            return row
        except RowRefused as refused:
            raise RowRefused(refused.code, refused.message, refused.field, place) from None

    def _row(self, given: Mapping[str, Any], place: int | None, calls: int, reason: str | None) -> Row:
        least = 0 if reason is None else -MAX_COUNT
        at_ms = self._at(given["at"])
        counts, tags = self._counts(given.get("counts") or {}, least), self._tags(given.get("tags") or {})
        latency_us, sent = _latency_us(given.get("latency_ms", 0)), _whole("bytes", given.get("bytes", 0), least, MAX_COUNT)
        bins = {} if reason is not None else _bins(given.get("latency_bins"), calls, latency_us)
        who = _org(given["org"]), _key(given["key"])
        endpoint, status = _endpoint(given["endpoint"]), _whole("status", given["status"], 100, 999)
        content = {
            "org": who[0], "at": at_ms, "key": who[1], "endpoint": endpoint, "status": status, "calls": calls,
            "counts": {name: amount for name, amount in counts.items() if amount}, "tags": tags, "bytes": sent,
            "latency_us": latency_us, "reason": reason, "bins": bins,
        }  # fmt: skip
        untagged = self._settings.untagged
        key = CallKey(
            at_ms // 1000 // MINUTE * MINUTE,
            who,
            endpoint,
            tuple([tags.get(name) or untagged.get(name, NONE) for name in self._settings.dimensions]),
            status,
        )
        amounts = tuple([counts.get(name, 0) for name in self._settings.counters])
        # Without calls too: views look for counters where there was something last.
        totals = CallTotals(calls, latency_us, sent, at_ms if calls >= 0 else 0, amounts, bins)
        return Row(place, _text("id", given["id"], MOST_ID), at_ms, key, totals, self._record(content))

    def _record(self, content: dict[str, Any]) -> str:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        digest = blake2b(text.encode(), digest_size=8).hexdigest()
        if content["reason"] is None:
            return digest
        del content["bins"]
        return f"{digest} {json.dumps({**content, 'made': int(self._clock() * 1000)}, separators=(',', ':'))}"

    def _at(self, given: object) -> int:
        seconds = _seconds(given)
        if not 0 <= seconds <= self._clock() + AHEAD:
            raise _wrong("at", "a time that is over", given)
        return int(seconds * 1000)

    def _counts(self, given: object, least: int) -> dict[str, int]:
        named = _named("counts", given, self._settings.counters, "counters")
        return {name: _whole(f"counts[{name!r}]", amount, least, MAX_COUNT) for name, amount in named.items()}

    def _tags(self, given: object) -> dict[str, str]:
        named = _named("tags", given, self._settings.dimensions, "dimensions")
        for name, value in named.items():
            if not isinstance(value, str):
                raise _wrong(f"tags[{name!r}]", "text", value)
        return {name: member_from_request(value) for name, value in named.items() if value}


def _wrong(field: str, allowed: str, given: object) -> RowRefused:
    return RowRefused("invalid_row", f"{field} must be {allowed}, not {_shown(given)}", field.partition("[")[0])


def _shown(given: object) -> str:
    try:
        return repr(given)[:100]
    except Exception:  # Of a number of thousands of digits, or of anybody's object.
        return f"this {type(given).__name__}"


def _mapping(given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise RowRefused("invalid_row", f"a row is a dict of {', '.join(REQUIRED)}, not {_shown(given)}")
    missing = next((name for name in REQUIRED if name not in given), None)
    if missing is not None:
        raise RowRefused("invalid_row", f"{missing} is missing", missing)
    unknown = next((name for name in given if name not in _FIELDS), None)
    if unknown is not None:
        allowed = ", ".join((*REQUIRED, *OPTIONAL))
        raise RowRefused("invalid_row", f"there is no field {str(unknown)[:100]!r}; there are {allowed}", str(unknown)[:100])
    return given


def _named(field: str, given: object, declared: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise _wrong(field, "a dict", given)
    unknown = next((name for name in given if name not in declared), None)
    if unknown is not None:
        raise _wrong(field, f"of the declared {what} ({', '.join(declared) or 'none'})", unknown)
    return given


def _whole(field: str, given: object, least: int, most: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise _wrong(field, f"a whole number from {least} to {most}", given)
    return given


def _text(field: str, given: object, most: int) -> str:
    try:
        if isinstance(given, str) and given.strip() and len(given.encode()) <= most:
            return given
    except UnicodeEncodeError:
        pass
    raise _wrong(field, f"text of 1 to {most} bytes", given)


def _seconds(given: object) -> float:
    if isinstance(given, (datetime, str)):
        try:
            at = datetime.fromisoformat(given) if isinstance(given, str) else given
            if at.tzinfo is not None:
                return at.timestamp()
        except (ValueError, OverflowError):
            pass
    elif isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= MOST_SECONDS:
        return given
    raise _wrong("at", "an aware datetime, its RFC 3339 text, or seconds since 1970", given)


def _latency_us(given: object) -> int:
    # Also false of what is no number at all, NaN.
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) <= MOST_MS:
        raise _wrong("latency_ms", f"a number from {-MOST_MS} to {MOST_MS}", given)
    return round(given * 1000)


def _bins(given: object, calls: int, latency_us: int) -> dict[int, int]:
    if given is None:
        return {bin_of(latency_us / calls): calls}
    if not isinstance(given, Mapping):
        raise _wrong("latency_bins", "a dict of bins and calls", given)
    bins = {_bin(number): _whole(f"latency_bins[{number!r}]", many, 1, MOST_CALLS) for number, many in given.items()}
    if sum(bins.values()) != calls:
        raise _wrong("latency_bins", f"as many calls as calls ({calls})", sum(bins.values()))
    return bins


def _bin(given: object) -> int:
    # Keys of a JSON object are text.
    number = int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 4 else given
    return _whole("latency_bins", number, 0, LAST_BIN)


def _org(given: object) -> str:
    found = member_from_request(_name("org", given))
    return org_member(OPERATOR) if found == OPERATOR else found


def _key(given: object) -> str:
    return ANONYMOUS if given is None else member_from_request(_name("key", given))


def _name(field: str, given: object) -> str:
    if not isinstance(given, str) or not given:
        raise _wrong(field, "the name that answers list", given)
    return given


def _endpoint(given: object) -> str:
    method, _, template = given.partition(" ") if isinstance(given, str) else ("", "", "")
    if method not in (*METHODS, OTHER_METHOD) or not template:
        raise _wrong("endpoint", "a method and a template, as in 'GET /v1/items/{id}'", given)
    return endpoint_member(method, template)
