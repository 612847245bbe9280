"""The lists of views, and their reports for programs: typed objects, with no HTTP, for jobs and notebooks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import DAY, midnight, zone
from usage_middleware.report import by_group, by_key, corrections, cost, details, endpoints, limits, series, summary
from usage_middleware.report.context import ReportSource, report_scope
from usage_middleware.report.embed import embed_token
from usage_middleware.report.parameters import FIRST_YEAR, INVALID, LAST_YEAR, WINDOW, AskedOf, Parameter, parameters_of
from usage_middleware.report.reconcile import Reconciliation, reconcile
from usage_middleware.report.view import AnyView, View
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.driver_errors import guard

P = TypeVar("P", bound=AskedOf)
R = TypeVar("R", bound=msgspec.Struct)

VIEWS: tuple[AnyView, ...] = (
    summary.VIEW,
    details.VIEW,
    endpoints.VIEW,
    by_group.VIEW,
    by_key.VIEW,
    series.VIEW,
)
#: What is about plans, and so about billing periods in place of windows.
PLAN_VIEWS: tuple[AnyView, ...] = (limits.VIEW, cost.VIEW)


class Reports(ReportSource):
    """`usage.reader`: asks what the HTTP views ask, and gives their reports as objects.

    Each method takes the parameters of its view by name; `start` and `end` are aware datetimes, dates (midnight in
    `timezone`) or seconds since the epoch. Without a viewer the question is the operator's:
    say `org=` for one organisation. For instance a month's chargeback, key by key:

        report = usage.reader.by_key(org="acme", start=datetime(2026, 10, 1, tzinfo=UTC), end=datetime(2026, 11, 1, tzinfo=UTC))
        for key in report.keys:
            print(key.name, key.request_count)

    Every method raises `QueryError` for a question that can't be answered, and `UsageUnavailable` where Redis does not
    answer.
    """

    def summary(self, viewer: Viewer | None = None, **parameters: Any) -> summary.Summary:
        """What was used, by endpoint, project, status class and day (`SummaryParameters`)."""
        return self.report(summary.VIEW, viewer, **parameters)

    def details(self, viewer: Viewer | None = None, **parameters: Any) -> details.Details:
        """Everything about one key or all, over time (`DetailsParameters`)."""
        return self.report(details.VIEW, viewer, **parameters)

    def endpoints(self, viewer: Viewer | None = None, **parameters: Any) -> endpoints.Endpoints:
        """Every endpoint with its counters, rates, last use and buckets (`EndpointsParameters`)."""
        return self.report(endpoints.VIEW, viewer, **parameters)

    def by_group(self, viewer: Viewer | None = None, **parameters: Any) -> by_group.ByGroup:
        """The busiest values of one dimension (`ByGroupParameters`)."""
        return self.report(by_group.VIEW, viewer, **parameters)

    def by_key(self, viewer: Viewer | None = None, **parameters: Any) -> by_key.ByKey:
        """Every API key, used or not (`ByKeyParameters`)."""
        return self.report(by_key.VIEW, viewer, **parameters)

    def series(self, viewer: Viewer | None = None, **parameters: Any) -> series.Series:
        """Any measure over time, by any group (`SeriesParameters`)."""
        return self.report(series.VIEW, viewer, **parameters)

    def limits(self, viewer: Viewer | None = None, **parameters: Any) -> limits.Limits:
        """What may be used, what was used of it, and what is left (`LimitsParameters`)."""
        return self.report(limits.VIEW, viewer, **parameters)

    def cost(self, viewer: Viewer | None = None, **parameters: Any) -> cost.Cost:
        """What a billing period costs, and who carries it (`CostParameters`)."""
        return self.report(cost.VIEW, viewer, **parameters)

    def reconcile(
        self,
        org: str | None = None,
        *,
        start: datetime | date | int | None = None,
        end: datetime | date | int | None = None,
        members: int = 100,
    ) -> Reconciliation:
        """Compare the counters with each other, and name those that disagree.

        Each call is counted in series, boards and histograms, of the organisation, its endpoint, its key and its dimensions,
        at three resolutions, and again for the operator. This adds all of them up and compares them. It only reads. Calls may
        come in meanwhile; but those that Redis gets in this moment may be in the organisation's counters and not yet in the
        operator's: ask again.

        Args:
            org: an organisation; None: all of them together, each compared with its own counters.
            start: where to begin, aware datetime, date or seconds since the epoch; None: a day before the end. Whole UTC days
                are compared.
            end: where to stop; None: now.
            members: how many endpoints, keys and organisations are looked at one by one, the busiest first, at most 1,000.
                The sums are of all of them.

        Returns:
            What was compared, and the differences. It reads some 20 Redis keys a slot of each day, and 10 for each member.

        Raises:
            QueryError: more than 31 days (`window_too_wide`), or an argument that makes no sense.
            UsageUnavailable: Redis does not answer.
        """
        context = self.context(Viewer.operator())
        together = self.schema.settings.operator_tree
        until = context.now if end is None else _whole("end", end)
        since = until - DAY if start is None else _whole("start", start)
        with guard():
            return reconcile(context, report_scope(context.viewer, org, together=together).org, since, until, members)

    def corrections(self, viewer: Viewer | None = None, **parameters: Any) -> corrections.Corrections:
        """The corrections that were made, with their reasons, for operators (`Asked`)."""
        return self.report(corrections.VIEW, viewer, **parameters)

    def embed_token(self, viewer: Viewer, seconds: int = 900, *, audience: str, origin: str) -> str:
        """A token that shows the page to a customer of yours inside of your own page.

        Args:
            viewer: an organisation, or a key, whose revocation ends it. Never an operator.
            seconds: how long it is good for, at most 3,600.
            audience: the `name` of the only usage app that takes it.
            origin: of your page, such as `https://portal.example.com`, which is one of `embed_origins`.

        Raises:
            ConfigurationError: an argument is not possible; says which.
            UsageUnavailable: Redis does not answer.
        """
        return embed_token(self, viewer, seconds, audience, origin)

    def report(self, view: View[P, R], viewer: Viewer | None = None, /, **parameters: Any) -> R:
        """The report of any view."""
        if viewer is not None and not isinstance(viewer, Viewer):
            raise TypeError(f"a Viewer comes first, not {viewer!r}: say org=..., or Viewer.organization(...)")
        with guard():
            return view.build(self.context(viewer or Viewer.operator()), _parameters(view.asks, parameters))


def _parameters(asks: type[P], given: Mapping[str, Any]) -> P:
    known = {parameter.name: parameter for parameter in parameters_of(asks)}
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise QueryError("unknown_parameter", f"There is no parameter {unknown}; there are {', '.join(known)}", unknown)
    given = {name: value for name, value in given.items() if given.get(known[name].unless) is None}
    for name, value in given.items():
        _check_range(known[name], value)
    tz = str(given.get("timezone", "UTC"))
    values = {name: _seconds(name, value, tz) if known[name].kind == "time" else value for name, value in given.items()}
    try:
        return msgspec.convert(values, asks)
    except msgspec.ValidationError as error:
        at = _FIELD.search(str(error))
        if at is None:
            raise QueryError(INVALID, str(error)) from None
        raise QueryError(INVALID, _wrong(known[at[1]], given[at[1]], str(error)), at[1]) from None


#: Where in a struct msgspec found something wrong.
_FIELD = re.compile(r"`\$\.(\w+)`")


def _wrong(parameter: Parameter, value: object, error: str) -> str:
    """What is wrong with a parameter, in the words of the HTTP views where they have some."""
    if parameter.kind == "time":
        return f"{parameter.name} must be an aware datetime, a date, or seconds since 1970, not {value!r}"
    if parameter.choices:
        return f"{parameter.name} must be one of {', '.join(parameter.choices)}, not {value!r}"
    return f"{parameter.name}: {error.partition(' - at ')[0]}"


def _whole(name: str, value: Any) -> int:
    """Whole seconds of a time, upward."""
    found = _seconds(name, value, "UTC")
    if not isinstance(found, int | float) or not 0 <= found <= _LAST_SECOND:
        raise QueryError(WINDOW, f"{name} must be an aware datetime, a date, or seconds since 1970, not {value!r}", name)
    return math.ceil(found)


def _seconds(name: str, value: Any, tz: str) -> Any:
    """A datetime, or a date as its midnight in a zone, as seconds since the epoch."""
    if not isinstance(value, datetime):
        return midnight(value, zone(tz)) if isinstance(value, date) else value
    if value.tzinfo is None:
        raise QueryError(WINDOW, f"{name}={value} has no time zone: give an aware datetime, for instance in UTC.", name)
    return value.timestamp()


def _check_range(parameter: Parameter, value: object) -> None:
    """As over HTTP, but that programs may ask for pages of any length."""
    if isinstance(value, date):
        is_within = FIRST_YEAR <= value.year <= LAST_YEAR
    else:
        is_within = parameter.kind != "time" or not isinstance(value, int | float) or 0 <= value <= _LAST_SECOND
    if not is_within:
        raise parameter.year_error()
    if parameter.kind == "integer" and isinstance(value, int) and value < parameter.minimum:
        raise QueryError(INVALID, f"{parameter.name} must be {parameter.minimum} at least", parameter.name)
    if parameter.kind == "text" and isinstance(value, str) and 0 < parameter.maximum < len(value):
        raise parameter.length_error()


_LAST_SECOND = int(datetime(LAST_YEAR, 12, 31, tzinfo=UTC).timestamp())
