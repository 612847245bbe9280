"""Reads a query string: the text of a view's parameters becomes values, or an error that says what is possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from usage_middleware import periods
from usage_middleware.errors import QueryError
from usage_middleware.report.parameters import FIRST_YEAR, INVALID, LAST_YEAR, AskedOf, Parameter, ParameterKind
from usage_middleware.report.view import AnyView

MAX_PARAMETERS = 100
#: How much of a parameter an error message repeats.
_SHOWN = 100
_ASCII = bytes(range(0x80))
_UTC = periods.zone("UTC")


class Query(NamedTuple):
    """A parsed query string. `format` is None where it does not say; `table` is the one that CSV shows."""

    params: AskedOf
    format: str | None
    table: str


def parse(view: AnyView, query: bytes) -> Query:
    """What a query string asks of a view.

    Raises:
        QueryError: `unknown_parameter`, `invalid_parameter`, or the parameter's own code.
    """
    texts = _texts(view, query)
    zone = _zone(view, texts)
    values: dict[str, Any] = {
        one.name: _READ[one.kind](one, texts[one.name], zone)
        for one in view.parameters
        if one.name in texts and one.unless not in texts
    }
    shape, table = values.pop("format", None), values.pop("table", next(iter(view.tables)))
    return Query(view.asks(**values), shape, table)


def _texts(view: AnyView, query: bytes) -> dict[str, str]:
    names = [parameter.name for parameter in view.parameters]
    texts: dict[str, str] = {}
    for name, text in _pairs(query):
        if name.startswith("_"):
            continue
        if name not in names:
            raise QueryError("unknown_parameter", f"There is no such parameter; there are {', '.join(names)}", _shown(name))
        if name in texts:
            raise QueryError(INVALID, f"{name} is given twice", name)
        texts[name] = text
    return texts


def _pairs(query: bytes) -> list[tuple[str, str]]:
    """Names and values, whatever bytes came: raw ones beyond ASCII are read as UTF-8, invalid ones become U+FFFD."""
    text = quote(query, safe=_ASCII)
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="replace")
    except ValueError:
        raise QueryError(INVALID, f"A query has {MAX_PARAMETERS} parameters at most") from None


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _zone(view: AnyView, texts: Mapping[str, str]) -> ZoneInfo:
    """The zone in which a date alone begins: the view's own, read before the other parameters."""
    for parameter in view.parameters:
        if parameter.kind == "zone" and parameter.name in texts:
            return periods.zone(_zone_name(parameter, texts[parameter.name], _UTC))
    return _UTC


def _zone_name(parameter: Parameter, text: str, _: ZoneInfo) -> str:
    try:
        return periods.zone(text).key
    except QueryError:
        raise parameter.error(f"Invalid timezone: {_shown(text)}") from None


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


def _text(parameter: Parameter, text: str, _: ZoneInfo) -> str:
    if parameter.maximum and len(text) > parameter.maximum:
        raise parameter.length_error()
    return text


_DATE = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}")
#: An instant: its year, date, clock and offset. A `+` that nobody percent-encoded arrives as a space.
_INSTANT = re.compile(
    rf"({_DATE.pattern})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{{1,9}})?)?)"
    r"([Zz]|[-+ ][0-9]{2}:?[0-5][0-9])?"
)


def _date(parameter: Parameter, text: str, _: ZoneInfo) -> date:
    try:
        return _day(parameter, text)
    except ValueError:
        raise parameter.error(f"{parameter.name} must be a date like 2026-03-01") from None


def _day(parameter: Parameter, text: str) -> date:
    parts = _DATE.fullmatch(text)
    if parts is None:
        raise ValueError
    _check_year(parameter, parts[1])
    return date.fromisoformat(text)


def _check_year(parameter: Parameter, year: str) -> None:
    if not FIRST_YEAR <= int(year) <= LAST_YEAR:
        raise parameter.year_error()


def _time(parameter: Parameter, text: str, zone: ZoneInfo) -> float:
    try:
        found = _midnight(parameter, text, zone) if _DATE.fullmatch(text) else _instant(parameter, text)
    except ValueError:
        raise parameter.error(f"{parameter.name} must be a time like 2026-11-20T13:45:00Z, or a date") from None
    seconds = found.timestamp()
    if seconds < 0:
        raise parameter.year_error()
    return seconds


def _midnight(parameter: Parameter, text: str, zone: ZoneInfo) -> datetime:
    day = _day(parameter, text)
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _instant(parameter: Parameter, text: str) -> datetime:
    parts = _INSTANT.fullmatch(text)
    if parts is None:
        raise ValueError
    day, year, clock, offset = parts.groups()
    if offset is None:
        raise parameter.error(f"{parameter.name} has no offset: add Z if it is UTC, as in 2026-11-20T13:45:00Z")
    _check_year(parameter, year)
    return datetime.fromisoformat(f"{day}T{clock}{offset.upper().replace(' ', '+')}")


_READ: Mapping[ParameterKind, Callable[[Parameter, str, ZoneInfo], object]] = {
    "choice": _choice,
    "integer": _integer,
    "boolean": _boolean,
    "text": _text,
    "zone": _zone_name,
    "date": _date,
    "time": _time,
}
