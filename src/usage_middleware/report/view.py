"""What a view is: everything about it stands in one file, which exports its `VIEW`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from usage_middleware.options import Settings
from usage_middleware.report.context import ReportContext
from usage_middleware.report.parameters import AskedOf, Parameter, parameters_of
from usage_middleware.report.viewer import Viewer

P = TypeVar("P", bound=AskedOf)
R = TypeVar("R", bound=msgspec.Struct)

JSON, CSV = "json", "csv"
_FORMAT = Parameter(
    "format", "choice", "JSON, or the main table as CSV. Default: what `Accept` says.", CSV, choices=(JSON, CSV)
)

#: The header and the rows of a table, for CSV.
Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[object]]]
#: Where the wire differs from the report types: type -> field -> its JSON schema, or None for one that is left out.
WireFields: TypeAlias = Mapping[type, Mapping[str, Any]]


def fields_of(report: msgspec.Struct) -> dict[str, Any]:
    """A report by its fields, without those that were not asked for."""
    return {name: value for name, value in msgspec.structs.asdict(report).items() if value is not msgspec.UNSET}


@dataclass(frozen=True, kw_only=True)
class View(Generic[P, R]):
    """One view of the usage API.

    Attributes:
        path: under the mount.
        asks: what it may be asked.
        report: what it answers.
        build: makes the report; raises `QueryError` for a question that can't be answered, and `UsageUnavailable`.
        tables: the report as tables, the main one first.
        example: an answer, as JSON.
        wire: the report as msgspec is to encode it.
        wire_fields: how the wire differs from the report types.
        depends_on: what an answer depends on beside counters, question and settings: (context, parameters) -> anything that
            can be encoded. It is asked before the cache is.
        choices: what a parameter may be that depends on the settings and the viewer.
        more_codes: error codes beside those of its parameters and those that every view has.
        is_signed: the answer carries `api_request_id` and `request_completed_at`.
        is_live: it is neither limited nor cached: what is asked is how much is left.
        error_fields: what its errors carry beside the envelope.
        parameters: all that its query string may hold.
    """

    name: str
    path: str
    title: str
    asks: type[P]
    report: type[R]
    build: Callable[[ReportContext, P], R]
    tables: Mapping[str, Callable[[R], Table]]
    example: str
    wire: Callable[[R], Any] = fields_of
    wire_fields: Callable[[Settings], WireFields] = field(default=lambda _: {})
    depends_on: Callable[[ReportContext, P], object] = lambda context, params: None
    choices: Mapping[str, Callable[[Settings, Viewer], Sequence[str]]] = field(default_factory=dict)
    more_codes: tuple[str, ...] = ()
    is_signed: bool = False
    is_live: bool = False
    error_fields: Mapping[str, object] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = field(init=False)

    def __post_init__(self) -> None:
        tables = tuple(self.tables)
        table = Parameter("table", "choice", "Which table, as CSV.", tables[-1], tables[0], tables)
        shapes = (_FORMAT, table) if len(tables) > 1 else (_FORMAT,)
        object.__setattr__(self, "parameters", (*parameters_of(self.asks), *shapes))

    @property
    def codes(self) -> set[str]:
        """The error codes of its own, beside those of authentication, of paths and of failures."""
        return {"missing_org", "not_retained", "unavailable", *self.more_codes, *(one.code for one in self.parameters)}


AnyView: TypeAlias = View[Any, Any]
