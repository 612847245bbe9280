"""The final statements of an organisation. Their heads, which never change, are remembered by this process."""

from __future__ import annotations

from collections.abc import Iterable

from usage_middleware.plans.billing import Period
from usage_middleware.plans.statement_record import FinalHead, FinalStatement, decode, decode_head, encode
from usage_middleware.report.context import ReportContext


class KeptStatements:
    """Looks for final statements. With many keys they are large: only their heads are read, unless one is asked for whole."""

    def __init__(self, context: ReportContext, org: str) -> None:
        self._plans = context.plans
        self._org = org
        #: By the begin of their periods; None: there is none.
        self._heads: dict[int, FinalHead | None] = {}

    def look(self, periods: Iterable[Period]) -> None:
        """Look for the final statements of these periods."""
        starts = [period.start for period in periods if self._heads.get(period.start) is None]
        asked_at = self._plans.finals.generation
        known = self._plans.finals.known([(self._org, start) for start in starts])
        self._heads |= {start: head for (_, start), head in known.items()}
        unknown = [start for start in starts if (self._org, start) not in known]
        bodies = self._plans.statements.read(self._org, unknown) if unknown else []
        read = {start: None if body is None else decode_head(body) for start, body in zip(unknown, bodies, strict=True)}
        self._heads |= read
        self._plans.finals.keep({(self._org, at): head for at, head in read.items() if head is not None}, asked_at)

    def head(self, period: Period) -> FinalHead | None:
        """That of a period; None if it has no final statement, as far as it was looked for."""
        return self._heads.get(period.start)

    def whole(self, start: int) -> FinalStatement | None:
        """The final statement of the period that began then; None if there is none, or it is damaged."""
        (body,) = self._plans.statements.read(self._org, [start])
        found = None if body is None else decode(body)
        if found is None:
            self._heads[start] = None
        return found

    def keep(self, final: FinalStatement) -> FinalStatement | None:
        """Keep a statement. The one that is kept: another process may have been quicker. None if none can be kept."""
        body = self._plans.statements.keep(self._org, final.period.start, encode(final))
        found = None if body is None else decode(body)
        if found is not None:
            self._heads[found.period.start] = found.head
        return found

    @property
    def heads(self) -> list[FinalHead]:
        """Those that were found, the earliest first."""
        return [head for _, head in sorted(self._heads.items()) if head is not None]
