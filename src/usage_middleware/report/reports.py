"""The five reports for programs: typed objects, with no HTTP, for jobs and notebooks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import midnight, zone
from usage_middleware.report import by_group, by_key, details, endpoints, summary
from usage_middleware.report.parameters import (
    FIRST_YEAR,
    LAST_YEAR,
    ByGroupParameters,
    ByKeyParameters,
    DetailsParameters,
    EndpointsParameters,
    Parameters,
    SummaryParameters,
)
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.driver_errors import guard
from usage_middleware.store.reader import Reader

P = TypeVar("P", bound=Parameters)
R = TypeVar("R")


class Reports:
    """`usage.reader`: asks what the HTTP views ask, and gives their reports as objects.

    Each method takes the parameters of its view by name; `start` and `end` are aware datetimes, dates (midnight in the
    view's `timezone`, UTC where it has none) or seconds since the epoch. Without a viewer the question is the operator's:
    say `org=` for one organisation. For instance a month's chargeback, key by key:

        report = usage.reader.by_key(org="acme", start=datetime(2026, 10, 1, tzinfo=UTC), end=datetime(2026, 11, 1, tzinfo=UTC))
        for key in report.keys:
            print(key.name, key.request_count)

    Every method raises `QueryError` for a question that can't be answered, and `UsageUnavailable` where Redis does not
    answer.
    """

    def __init__(self, counters: Reader, clock: Callable[[], float]) -> None:
        #: What the reports are built from.
        self.counters = counters
        self._clock = clock

    def summary(self, viewer: Viewer | None = None, **asked: Any) -> summary.Summary:
        """What was used, by endpoint, project, status class and day (`SummaryParameters`)."""
        return self._build(summary.build, SummaryParameters, viewer, asked)

    def details(self, viewer: Viewer | None = None, **asked: Any) -> details.Details:
        """Everything about one key or all, over time (`DetailsParameters`)."""
        return self._build(details.build, DetailsParameters, viewer, asked)

    def endpoints(self, viewer: Viewer | None = None, **asked: Any) -> endpoints.Endpoints:
        """Every endpoint with its counters, rates, last use and buckets (`EndpointsParameters`)."""
        return self._build(endpoints.build, EndpointsParameters, viewer, asked)

    def by_group(self, viewer: Viewer | None = None, **asked: Any) -> by_group.ByGroup:
        """The busiest values of one dimension (`ByGroupParameters`)."""
        return self._build(by_group.build, ByGroupParameters, viewer, asked)

    def by_key(self, viewer: Viewer | None = None, **asked: Any) -> by_key.ByKey:
        """Every API key, used or not (`ByKeyParameters`)."""
        return self._build(by_key.build, ByKeyParameters, viewer, asked)

    def _build(
        self,
        build: Callable[[Reader, Viewer, P, int], R],
        kind: type[P],
        viewer: Viewer | None,
        asked: dict[str, Any],
    ) -> R:
        if viewer is not None and not isinstance(viewer, Viewer):
            raise TypeError(f"a Viewer comes first, not {viewer!r}: say org=..., or Viewer.organization(...)")
        now = math.ceil(self._clock())
        with guard():
            return build(self.counters, viewer or Viewer.operator(), _parameters(kind, asked), now)


def _parameters(kind: type[P], asked: dict[str, Any]) -> P:
    known = kind.__struct_fields__
    unknown = next((name for name in asked if name not in known), None)
    if unknown is not None:
        raise QueryError("unknown_parameter", f"There is no parameter {unknown}; there are {', '.join(known)}", unknown)
    tz = str(asked.get("timezone", "UTC"))
    for name, value in asked.items():
        _check_range(name, value)
    plain = {name: _plain(name, value, tz) for name, value in asked.items()}
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        at = _AT.search(str(error))
        raise QueryError(
            "invalid_parameter", _wrong(kind, at[1], asked, str(error)) if at else str(error), at and at[1]
        ) from None


def _wrong(kind: type[Parameters], name: str, asked: dict[str, Any], error: str) -> str:
    """What is wrong with a parameter, in the words of the HTTP views where they have some."""
    if name in _TIMES:
        return f"{name} must be an aware datetime, a date, or seconds since 1970, not {asked.get(name)!r}"
    hint = get_type_hints(kind)[name]
    choices = [choice for part in (hint, *get_args(hint)) if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return f"{name} must be one of {', '.join(choices)}, not {asked.get(name)!r}"
    return f"{name}: {error.partition(' - at ')[0]}"


#: Where in a struct msgspec found the trouble.
_AT = re.compile(r"`\$\.(\w+)`")


def _plain(name: str, value: Any, tz: str) -> Any:
    if name not in _TIMES or not isinstance(value, date):
        return value
    return _seconds(name, value) if isinstance(value, datetime) else midnight(value, zone(tz))


def _seconds(name: str, at: datetime) -> int:
    if at.tzinfo is None:
        raise QueryError("invalid_window", f"{name}={at} has no time zone: give an aware datetime, for instance in UTC.", name)
    # The end is exclusive: a part of a second more is a call more.
    return math.ceil(at.timestamp()) if name == "end" else math.floor(at.timestamp())


def _check_range(name: str, value: Any) -> None:
    """As over HTTP, but that programs may ask for pages of any length."""
    if isinstance(value, date):
        is_within = FIRST_YEAR <= value.year <= LAST_YEAR
    else:
        is_within = name not in _TIMES or not isinstance(value, int) or 0 <= value <= _LAST_SECOND
    if not is_within:
        raise QueryError("invalid_window", f"{name} must lie in the years {FIRST_YEAR} to {LAST_YEAR}", name)
    if name in _LEAST and isinstance(value, int) and value < _LEAST[name]:
        raise QueryError("invalid_parameter", f"{name} must be {_LEAST[name]} at least", name)


_TIMES = ("start", "end")
_LAST_SECOND = int(datetime(LAST_YEAR, 12, 31, tzinfo=UTC).timestamp())
_LEAST = {"limit": 1, "offset": 0}
