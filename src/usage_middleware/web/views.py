"""The one table of views: path -> parameters -> report. Every shell, the CSV writer and `/openapi.json` read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from usage_middleware import periods
from usage_middleware.errors import QueryError
from usage_middleware.report import by_group, by_key, details, endpoints, summary
from usage_middleware.report.parameters import (
    ByGroupParameters,
    ByKeyParameters,
    DetailsParameters,
    EndpointsParameters,
    Parameters,
    SummaryParameters,
)
from usage_middleware.web.parameters import INVALID, Parameter, derive, shown, value_of

Table = tuple[Sequence[str], Iterable[Sequence[object]]]

JSON, CSV = "json", "csv"
FORMAT = Parameter("format", "choice", "JSON, or the main table as CSV. Default: what `Accept` says.", CSV, None, (JSON, CSV))
MAX_PARAMETERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view of the usage API.

    Attributes:
        path: under the mount.
        source: the document in whose words it answers.
        codes: error codes of its own, beside those that every view has.
        tables: the names of its tables, the main one first, where there is more than one.
        is_paged: it lists pages, whose order is kept while somebody turns them.
        is_signed: the answer carries `api_request_id` and `request_completed_at`.
        error_fields: what its errors carry beside the envelope.
    """

    name: str
    path: str
    title: str
    source: str
    asks: type[Parameters]
    report: type[Any]
    build: Callable[..., Any]
    wire: Callable[[Any], Any]
    table: Callable[[Any, str], Table]
    codes: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    is_paged: bool = False
    is_signed: bool = False
    error_fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that may stand in its query string."""
        return _PARAMETERS[self.name]


class Question(NamedTuple):
    """A parsed query string. `format` is None where the query does not say."""

    params: Parameters
    format: str | None
    table: str


def _single(table: Callable[[Any], Table]) -> Callable[[Any, str], Table]:
    return lambda report, _: table(report)


_WINDOW = ("invalid_window", "not_retained")

VIEWS: tuple[View, ...] = (
    View(
        name="summary",
        path="/summary",
        title="What an organisation has used, by endpoint, project, status class and day",
        source="summary-enkrypt.txt",
        asks=SummaryParameters,
        report=summary.Summary,
        build=summary.build,
        wire=summary.wire,
        table=_single(summary.table),
        codes=("missing_org", "invalid_period", *_WINDOW),
    ),
    View(
        name="details",
        path="/",
        title="Everything about one key or all, over time, with errors and latency",
        source="details-get-usage.txt",
        asks=DetailsParameters,
        report=details.Details,
        build=details.build,
        wire=details.wire,
        table=details.table,
        codes=(
            "missing_org",
            "invalid_timeframe",
            "invalid_granularity",
            "invalid_timezone",
            "unsupported_timezone",
            *_WINDOW,
            "window_too_wide",
        ),
        tables=("series", "endpoints"),
        is_paged=True,
        error_fields={"success": False},
    ),
    View(
        name="endpoints",
        path="/endpoints",
        title="Every endpoint with its counters, rates, last use, and buckets in any time zone",
        source="endpoints-minerva.txt",
        asks=EndpointsParameters,
        report=endpoints.Endpoints,
        build=endpoints.build,
        wire=endpoints.wire,
        table=_single(endpoints.table),
        codes=("missing_org", "invalid_timezone", "unsupported_timezone", *_WINDOW, "window_too_wide"),
        is_signed=True,
    ),
    View(
        name="by-group",
        path="/by-group",
        title="The busiest values of one dimension",
        source="by-group-triport.txt",
        asks=ByGroupParameters,
        report=by_group.ByGroup,
        build=by_group.build,
        wire=by_group.wire,
        table=_single(by_group.table),
        codes=("missing_org", "invalid_range", "invalid_group", *_WINDOW),
    ),
    View(
        name="by-key",
        path="/by-key",
        title="Every API key, used or not: calls, errors, endpoints, last activity",
        source="by-key-edgedns.txt",
        asks=ByKeyParameters,
        report=by_key.ByKey,
        build=by_key.build,
        wire=by_key.wire,
        table=_single(by_key.table),
        codes=("missing_org", "invalid_period", *_WINDOW, "window_too_wide"),
        is_paged=True,
    ),
)


def _all_parameters(view: View) -> tuple[Parameter, ...]:
    if not view.tables:
        return (*derive(view.asks), FORMAT)
    table = Parameter("table", "choice", "Which table, as CSV.", view.tables[-1], view.tables[0], view.tables)
    return (*derive(view.asks), FORMAT, table)


_PARAMETERS: Mapping[str, tuple[Parameter, ...]] = {view.name: _all_parameters(view) for view in VIEWS}


def parse(view: View, query: bytes) -> Question:
    """What a query string asks of a view.

    Raises:
        QueryError: `unknown_parameter`, `invalid_parameter`, or the parameter's own code.
    """
    given = _given(view, query)
    zone = _zone(view, given)
    values: dict[str, Any] = {one.name: value_of(one, given[one.name], zone) for one in view.parameters if one.name in given}
    shape, table = values.pop("format", None), values.pop("table", view.tables[0] if view.tables else "")
    return Question(view.asks(**values), shape, table)


def _given(view: View, query: bytes) -> dict[str, str]:
    names = [parameter.name for parameter in view.parameters]
    given: dict[str, str] = {}
    for name, value in _pairs(query):
        if name.startswith("_"):
            continue
        if name not in names:
            raise QueryError("unknown_parameter", f"There is no such parameter; there are {', '.join(names)}", shown(name))
        if name in given:
            raise QueryError(INVALID, f"{name} is given twice", name)
        given[name] = value
    return given


def _pairs(query: bytes) -> list[tuple[str, str]]:
    """Names and values, whatever bytes came: raw ones beyond ASCII are taken as UTF-8, what is none becomes U+FFFD."""
    text = quote(query, safe=_ASCII)
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="replace")
    except ValueError:
        raise QueryError(INVALID, f"A query has {MAX_PARAMETERS} parameters at most") from None


_ASCII = bytes(range(0x80))


def _zone(view: View, given: Mapping[str, str]) -> ZoneInfo:
    """The zone in which a date alone begins: the view's own, before the other parameters are looked at."""
    for parameter in view.parameters:
        if parameter.kind == "zone" and parameter.name in given:
            return periods.zone(str(value_of(parameter, given[parameter.name], _UTC)))
    return _UTC


_UTC = periods.zone("UTC")
