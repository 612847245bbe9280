"""Every error this package raises on purpose."""

from __future__ import annotations

from collections.abc import Sequence


class UsageError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(UsageError, ValueError):
    """An option has a value it can't have; the message names the option and what is allowed."""


class UndeclaredName(ConfigurationError):
    """A call was tagged or counted under a name that `Usage` does not declare."""


class UsageUnavailable(UsageError):
    """Redis did not answer, or answered that it can't serve now. Worth trying again later."""


class QueryError(UsageError):
    """A question that can't be answered, and why.

    Attributes:
        code: a stable word for programs, for instance `invalid_range`.
        message: a sentence for a person, naming what is allowed.
        param: the parameter at fault, if there is one.
        nearest: of `not_retained`, and of `window_too_wide` where it is the packed time that is too much, the nearest windows
            that can be answered: (start, end), RFC 3339.
    """

    def __init__(
        self, code: str, message: str, param: str | None = None, *, nearest: Sequence[tuple[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.nearest = nearest


class KeyStoreError(UsageUnavailable):
    """A key store of the application's own (`Usage(keys=...)`) failed, or returned something else than it should."""


class RowRefused(UsageError, ValueError):
    """A correction, or a row of a backfill, that can't be counted. Nothing of it is counted.

    Attributes:
        code: a stable word for programs: `invalid_row`, `not_kept`, `out_of_range`, `id_used`, `too_many`.
        message: a sentence for a person, naming the row, the field and what is allowed.
        field: the field that is wrong, if it is one of them.
        row: which row of the backfill, counted from 0; None of a correction.
    """

    def __init__(self, code: str, message: str, field: str | None = None, row: int | None = None) -> None:
        where = "" if row is None else f"row {row}: "
        super().__init__(where + message)
        self.code = code
        self.message = where + message
        self.field = field
        self.row = row
