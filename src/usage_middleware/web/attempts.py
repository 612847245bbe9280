"""Who was refused: counted for operators, logged once a minute, and told to the application's own audit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from time import monotonic
from weakref import WeakKeyDictionary

from usage_middleware.errors import QueryError
from usage_middleware.report.context import ReportSource
from usage_middleware.report.viewer import Viewer
from usage_middleware.web.app_options import OnAccess

logger = logging.getLogger(__name__)

LOG_EVERY = 60.0
_REFUSALS = frozenset({"unauthenticated", "forbidden", "rate_limited"})
#: A question about another organisation, which is answered as if there were none.
FOREIGN = "foreign_org"


class Attempts:
    """Counts, in this process, the requests to the usage API that were refused, by reason."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self._logged: Mapping[str, int] = {}
        self._logged_at = float("-inf")

    def note(self, error: Exception) -> None:
        """Count an error, if it is a refusal."""
        reason = _reason(error)
        if reason is None:
            return
        self.refused[reason] += 1
        now = monotonic()
        if now >= self._logged_at + LOG_EVERY:
            self._logged_at = now
            new, self._logged = self.refused - Counter(self._logged), dict(self.refused)
            logger.warning("the usage API refused: %s", ", ".join(f"{count} {name}" for name, count in sorted(new.items())))


def _reason(error: Exception) -> str | None:
    if not isinstance(error, QueryError):
        return None
    if error.code == "not_found" and error.param == "org":
        return FOREIGN
    return error.code if error.code in _REFUSALS else None


def attempts_of(source: ReportSource) -> Attempts:
    """The attempts on all usage apps of one `Usage`: operators may look at them through another mount."""
    return _ATTEMPTS.setdefault(source, Attempts())


_ATTEMPTS: WeakKeyDictionary[ReportSource, Attempts] = WeakKeyDictionary()


class Audit:
    """Tells the application of every request. What its function raises is logged, once a minute, and changes no answer."""

    def __init__(self, on_access: OnAccess | None) -> None:
        self._on_access = on_access
        self._logged_at = float("-inf")

    def note(self, viewer: Viewer | None, view: str | None, status: int) -> None:
        """A request was answered."""
        if self._on_access is None:
            return
        try:
            self._on_access(viewer, view, status)
        except Exception:
            now = monotonic()
            if now >= self._logged_at + LOG_EVERY:
                self._logged_at = now
                logger.warning("on_access raised; the answer is not affected", exc_info=True)
