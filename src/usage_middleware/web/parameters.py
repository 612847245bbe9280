"""The parameters of a view, derived from its parameter struct, and how their text becomes values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from usage_middleware import periods
from usage_middleware.errors import QueryError
from usage_middleware.report.parameters import FIRST_YEAR, LAST_YEAR, Parameters

ParameterKind = Literal["choice", "integer", "boolean", "time", "date", "text", "zone"]

INVALID = "invalid_parameter"
WINDOW = "invalid_window"
MAX_OFFSET = 1_000_000
#: A message repeats no more of what was asked than this.
SHOWN = 100


class Parameter(NamedTuple):
    """One parameter: what it may be, and the code of the error when it is something else.

    Attributes:
        default: what stands in force when it is not given; None where nothing does.
        minimum: of an integer; inclusive, as `maximum` is.
    """

    name: str
    kind: ParameterKind
    doc: str
    example: str = ""
    default: object = None
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    code: str = INVALID

    def error(self, message: str) -> QueryError:
        """That this parameter is not what it may be."""
        return QueryError(self.code, message, self.name)


class _Note(NamedTuple):
    """What a type hint can't say of a parameter."""

    doc: str
    example: str = ""
    code: str = INVALID
    kind: ParameterKind | None = None
    minimum: int = 0
    maximum: int = 0


_PERIOD = "Window that ends now. Ignored where `start` or `end` is given."
_NOTES: Mapping[str, _Note] = MappingProxyType(
    {
        "org": _Note("For operators: the organisation. Anybody else may name its own.", "acme"),
        "start": _Note(
            "Start of a custom window, inclusive: RFC 3339, or a date.", "2026-11-01T00:00:00Z", WINDOW, kind="time"
        ),
        "end": _Note("End of a custom window, exclusive. Default: now.", "2026-11-20T00:00:00Z", WINDOW, kind="time"),
        "period": _Note(_PERIOD, "7d", "invalid_period"),
        "range": _Note(_PERIOD, "7d", "invalid_range"),
        "timeframe": _Note(_PERIOD, "7d", "invalid_timeframe"),
        "group": _Note("The dimension to break down by.", "endpoint", "invalid_group"),
        "granularity": _Note(
            "Width of the time series' buckets. Default: hour, or the finest kept for the whole window.",
            "day",
            "invalid_granularity",
        ),
        "timezone": _Note("IANA zone whose calendar places the buckets.", "Europe/Berlin", "invalid_timezone", kind="zone"),
        "key_id": _Note("Only this API key.", "key_7"),
        "environment": _Note("Only keys of this environment.", "live"),
        "include_revoked": _Note("List revoked keys too.", "true"),
        "include_endpoints": _Note("Add the breakdown by endpoint.", "false"),
        "include_errors": _Note("Add error statistics.", "false"),
        "include_latency": _Note("Add latency statistics.", "false"),
        "include_unused_endpoints": _Note("List endpoints without a call too.", "true"),
        "sort_by": _Note("What the list is sorted by."),
        "sort_order": _Note("Descending or ascending.", "asc"),
        "limit": _Note("How many rows are listed.", "50", minimum=1, maximum=1000),
        "offset": _Note("How many rows are skipped.", "0", maximum=MAX_OFFSET),
        "start_date": _Note("First day, inclusive in the zone; together with `end_date`.", "2026-03-01", WINDOW),
        "end_date": _Note("Last day, inclusive in the zone; together with `start_date`.", "2026-03-26", WINDOW),
        "bucketing_size": _Note("Width of the buckets.", "day"),
    }
)


def derive(struct: type[Parameters]) -> tuple[Parameter, ...]:
    """The parameters of a view, in the order in which its struct declares them."""
    hints = get_type_hints(struct)
    return tuple(_parameter(field.name, hints[field.name], field.default) for field in msgspec.structs.fields(struct))


def _parameter(name: str, hint: object, default: object) -> Parameter:
    note = _NOTES[name]
    kind, choices = _kind(hint)
    return Parameter(name, note.kind or kind, note.doc, note.example, default, choices, note.minimum, note.maximum, note.code)


def _kind(hint: object) -> tuple[ParameterKind, tuple[str, ...]]:
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Literal:
            return "choice", get_args(part)
        for plain, kind in _PLAIN:
            if part is plain:
                return kind, ()
    raise TypeError(f"a parameter can't be {hint!r}")


_PLAIN: tuple[tuple[type, ParameterKind], ...] = ((bool, "boolean"), (int, "integer"), (date, "date"), (str, "text"))


def value_of(parameter: Parameter, text: str, zone: ZoneInfo) -> object:
    """What a parameter's text means; a date alone is its midnight in `zone`.

    Raises:
        QueryError: with the parameter's own code.
    """
    return _READ[parameter.kind](parameter, text, zone)


def shown(text: str) -> str:
    """A caller's text as a message may repeat it."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _choice(parameter: Parameter, text: str, _: ZoneInfo) -> str:
    if text not in parameter.choices:
        raise parameter.error(f"{parameter.name} must be one of {', '.join(parameter.choices)}")
    return text


_INTEGER = re.compile(r"-?[0-9]{1,15}")


def _integer(parameter: Parameter, text: str, _: ZoneInfo) -> int:
    if _INTEGER.fullmatch(text) and parameter.minimum <= int(text) <= parameter.maximum:
        return int(text)
    raise parameter.error(f"{parameter.name} must be a whole number from {parameter.minimum} to {parameter.maximum}")


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _boolean(parameter: Parameter, text: str, _: ZoneInfo) -> bool:
    found = _BOOLEANS.get(text.lower())
    if found is None:
        raise parameter.error(f"{parameter.name} must be true or false")
    return found


def _text(_: Parameter, text: str, __: ZoneInfo) -> str:
    return text


def _zone(parameter: Parameter, text: str, _: ZoneInfo) -> str:
    try:
        return periods.zone(text).key
    except QueryError:
        raise parameter.error(f"Invalid timezone: {shown(text)}") from None


_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_CLOCK = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
#: A `+` that nobody percent-encoded arrives as a space.
_OFFSET = r"(?:([Zz])|([-+ ])([0-9]{2}):?([0-9]{2}))?"
_TIME = re.compile(rf"{_DATE.pattern}[Tt ]{_CLOCK}{_OFFSET}")


def _date(parameter: Parameter, text: str, _: ZoneInfo) -> date:
    try:
        return _day(parameter, text)
    except ValueError:
        raise parameter.error(f"{parameter.name} must be a date like 2026-03-01") from None


def _day(parameter: Parameter, text: str) -> date:
    parts = _DATE.fullmatch(text)
    if parts is None:
        raise ValueError
    year, month, day = (int(part) for part in parts.groups())
    _check_year(parameter, FIRST_YEAR <= year <= LAST_YEAR)
    return date(year, month, day)


def _check_year(parameter: Parameter, is_within: bool) -> None:
    if not is_within:
        raise parameter.error(f"{parameter.name} must lie in the years {FIRST_YEAR} to {LAST_YEAR}")


def _time(parameter: Parameter, text: str, zone: ZoneInfo) -> int:
    try:
        found = _midnight(parameter, text, zone) if _DATE.fullmatch(text) else _instant(parameter, text)
    except ValueError:
        raise parameter.error(f"{parameter.name} must be a time like 2026-11-20T13:45:00Z, or a date") from None
    seconds = int(found.replace(microsecond=0).timestamp())
    _check_year(parameter, seconds >= 0)
    # The end is exclusive: a part of a second more is a call more.
    return seconds + 1 if found.microsecond and parameter.name == "end" else seconds


def _midnight(parameter: Parameter, text: str, zone: ZoneInfo) -> datetime:
    day = _day(parameter, text)
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _instant(parameter: Parameter, text: str) -> datetime:
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError
    year, month, day, hour, minute, second, fraction, utc, sign, hours, minutes = parts.groups()
    if utc is None and sign is None:
        raise parameter.error(f"{parameter.name} has no offset: add Z if it is UTC, as in 2026-11-20T13:45:00Z")
    _check_year(parameter, FIRST_YEAR <= int(year) <= LAST_YEAR)
    offset = UTC if utc else _offset(sign, int(hours), int(minutes))
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, offset)


def _offset(sign: str, hours: int, minutes: int) -> timezone:
    if minutes > 59:
        raise ValueError
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if sign == "-" else offset)


_READ: Mapping[ParameterKind, Callable[[Parameter, str, ZoneInfo], object]] = MappingProxyType(
    {
        "choice": _choice,
        "integer": _integer,
        "boolean": _boolean,
        "text": _text,
        "zone": _zone,
        "date": _date,
        "time": _time,
    }
)
