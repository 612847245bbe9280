"""Finds out whose calls they are: from cells, which may only know a credential's digest, to rows of an organisation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from usage_middleware.gil import yielding
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.record.aggregate import Caller, CallKey, CallTotals
from usage_middleware.record.outbox import Outbox, row_of
from usage_middleware.record.overflow import KnownKeys
from usage_middleware.store.driver_errors import reason, redis_errors
from usage_middleware.store.schema import ANONYMOUS, UNMATCHED

#: digest -> (organisation, key, whether the directory knows it)
Resolved = dict[bytes, tuple[str, str, bool]]
Resolve = Callable[[Collection[bytes]], Resolved]


#: Counts and logs an error of this package, by its reason.
CountError = Callable[[str], None]


class Callers:
    """Asks the key directory. It may be the application's own, and raise anything.

    Attributes:
        error: why it could not be asked the last time, if Redis was the reason.
    """

    def __init__(self, resolve: Resolve, known_keys: KnownKeys, count_error: CountError) -> None:
        self._resolve = resolve
        self._known_keys = known_keys
        self._count_error = count_error
        self.error = ""

    def find(self, callers: Iterable[Caller]) -> Resolved | None:
        """Whose the digests among these callers are; None if the directory can't answer now."""
        self.error = ""
        digests = {caller for caller in callers if isinstance(caller, bytes)}
        if not digests:
            return {}
        try:
            found = self._resolve(digests)
            return {digest: found.get(digest, (DEFAULT_ORG, ANONYMOUS, False)) for digest in digests}
        except redis_errors() as error:
            self.error = reason(error)
        except Exception:
            self._count_error("resolve")
        return None

    def known_keys(self, org: str, ids: Collection[str]) -> set[str]:
        """Which of these ids are keys of an organisation in the directory; none if it can't answer now."""
        try:
            return set(self._known_keys(org, ids)) & set(ids)
        except Exception:
            self._count_error("known_keys")
            return set()


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
