"""Finds out whose calls they are: from cells, which may only know a credential's digest, to rows of an organisation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from usage_middleware.gil import yielding
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.record.aggregate import Caller, CallKey, CallTotals
from usage_middleware.record.outbox import Outbox, row_of
from usage_middleware.record.sender import CountError
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.schema import ANONYMOUS, UNMATCHED

#: digest -> (organisation, key, whether the directory knows it)
Resolved = dict[bytes, tuple[str, str, bool]]
Resolve = Callable[[Collection[bytes]], Resolved]


class Callers:
    """Asks the key directory.

    Attributes:
        trouble: why it could not be asked the last time, if Redis was the reason.
    """

    def __init__(self, resolve: Resolve, count_error: CountError) -> None:
        self._resolve = resolve
        self._count_error = count_error
        self.trouble = ""

    def find(self, callers: Iterable[Caller]) -> Resolved | None:
        """Whose the digests among these are; None where the directory can't tell now."""
        self.trouble = ""
        digests = {caller for caller in callers if isinstance(caller, bytes)}
        if not digests:
            return {}
        try:
            found = self._resolve(digests)
            return {digest: found.get(digest, (DEFAULT_ORG, ANONYMOUS, False)) for digest in digests}
        except redis_errors() as error:
            self.trouble = str(error)
        except Exception:  # A directory of the application's own may raise anything.
            self._count_error("resolve")
        return None


def put(cells: dict[CallKey, CallTotals], who: Resolved | None, outbox: Outbox) -> dict[CallKey, CallTotals]:
    """Put the calls of known callers into an outbox; the others."""
    others = {}
    for key, cell in yielding(cells.items()):
        minute, caller, endpoint, tags, status = key
        if isinstance(caller, bytes):
            if who is None:
                others[key] = cell
                continue
            caller = _caller(who[caller], endpoint, status)
        outbox.put(row_of(minute, *caller, endpoint, tags, status, cell))
    return others


def _caller(resolved: tuple[str, str, bool], endpoint: str, status: int) -> tuple[str, str]:
    """Who it was. A credential that nobody knows and that opened nothing gets no name: a scanner may make up thousands."""
    org, key, known = resolved
    opened = status not in (401, 403) and not endpoint.endswith(UNMATCHED)
    return (org, key) if known or opened else (DEFAULT_ORG, ANONYMOUS)
