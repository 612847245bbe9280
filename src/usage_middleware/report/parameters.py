"""The parameters of the views, each declared once.

A view declares a struct whose fields are `Annotated` with what their types can't say. Query strings, error messages, OpenAPI,
the tables of the docs and `usage.reader` follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from usage_middleware.errors import QueryError

ParameterKind = Literal["choice", "integer", "boolean", "time", "date", "text", "zone"]

INVALID = "invalid_parameter"
WINDOW = "invalid_window"
MAX_OFFSET = 1_000_000
#: Times and dates outside of these years are refused: calendars end somewhere.
FIRST_YEAR, LAST_YEAR = 1970, 9000


class Parameter(NamedTuple):
    """One parameter: what it may be, and the code of the error when it is something else.

    Attributes:
        default: the value where it is not given; None where there is none.
        minimum: of an integer; inclusive, as `maximum` is. `maximum` of an integer holds for query strings alone; of a text it
            is how many characters it may have, 0: any number.
        unless: the parameter that makes this one mean nothing, whatever it says.
    """

    name: str
    kind: ParameterKind
    description: str
    example: str = ""
    default: object = None
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    code: str = INVALID
    unless: str = ""

    def error(self, message: str) -> QueryError:
        """The error that says what is wrong with this parameter."""
        return QueryError(self.code, message, self.name)

    def length_error(self) -> QueryError:
        """The error of a text that is too long."""
        return self.error(f"{self.name} must have at most {self.maximum} characters")

    def year_error(self) -> QueryError:
        """The error of a time outside of the years that are possible."""
        return self.error(f"{self.name} must lie in the years {FIRST_YEAR} to {LAST_YEAR}")


def described(description: str, example: str = "", **more: Any) -> msgspec.Meta:
    """What a type can't say of a parameter; `more` are fields of `Parameter`: code, kind, minimum, maximum."""
    return msgspec.Meta(description=description, examples=[example] if example else None, extra=more)


def period(code: str) -> msgspec.Meta:
    """The named window of a view, with the error code of its own."""
    return described("Window that ends now, or at `end`. Ignored where `start` is given.", "7d", code=code, unless="start")


Period = Annotated[Literal["24h", "7d", "30d", "90d", "month_to_date", "last_month"], period("invalid_period")]
SortOrder = Annotated[Literal["desc", "asc"], described("Descending or ascending.", "asc")]
Offset = Annotated[int, described("How many rows are skipped.", "0", maximum=MAX_OFFSET)]
Timezone = Annotated[
    str, described("IANA zone whose calendar places days and buckets.", "Europe/Berlin", code="invalid_timezone", kind="zone")
]
KeyId = Annotated[str | None, described("Only this API key.", "key_7")]
SORT_BY = described("What the list is sorted by.")
LIMIT = described("How many rows are listed.", "50", minimum=1, maximum=1000)
#: What is searched for: longer than any name that is told apart.
MOST_SEARCHED = 128


class AskedOf(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a question is about."""

    org: Annotated[str | None, described("For operators: the organisation. Anybody else may name its own.", "acme")] = None


class Asked(AskedOf, frozen=True, kw_only=True):
    """Whose calls, and when they finished. Times are seconds since the epoch."""

    start: Annotated[
        float | None,
        described(
            "Start of a custom window, inclusive: RFC 3339, or a date.", "2026-11-01T00:00:00Z", code=WINDOW, kind="time"
        ),
    ] = None
    end: Annotated[
        float | None,
        described("End of a custom window, exclusive. Default: now.", "2026-11-20T00:00:00Z", code=WINDOW, kind="time"),
    ] = None


class Parameters(Asked, frozen=True, kw_only=True):
    """What every view may be asked."""

    align: Annotated[
        Literal["outward", "exact"],
        described("Whether a custom window may be moved outward a little, or is refused where it is not exact.", "exact"),
    ] = "outward"
    compare: Annotated[Literal["previous"] | None, described("Add the totals of the window before.", "previous")] = None
    timezone: Timezone = "UTC"


def parameters_of(struct: type[AskedOf]) -> tuple[Parameter, ...]:
    """The parameters of a view, in the order in which its struct declares them."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple(
        _parameter(field.name, field.default, *get_args(hints[field.name])) for field in msgspec.structs.fields(struct)
    )


def _parameter(name: str, default: object, hint: object, meta: msgspec.Meta) -> Parameter:
    kind, choices = _kind(hint)
    example = str(meta.examples[0]) if meta.examples else ""
    declared = Parameter(name, kind, meta.description or "", example, default, choices)
    return declared._replace(**(meta.extra or {}))


def _kind(hint: object) -> tuple[ParameterKind, tuple[str, ...]]:
    """The kind of a type; what may be None as well is of the other type's kind."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Literal:
            return "choice", get_args(part)
        if isinstance(part, type) and part in _KINDS:
            return _KINDS[part], ()
    raise TypeError(f"a parameter can't be {hint!r}")


_KINDS: Mapping[type, ParameterKind] = {bool: "boolean", int: "integer", float: "time", date: "date", str: "text"}
