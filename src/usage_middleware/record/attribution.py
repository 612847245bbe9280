"""Finds out whose calls they are: a key of the directory in place of a credential's digest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from usage_middleware.events import ANONYMOUS_CALLER, CallerId, CallKey, Cells
from usage_middleware.gil import yielding
from usage_middleware.record.admission import Admission
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.overflow import FindKnownKeys
from usage_middleware.store.driver_errors import is_wrong_type, reason, redis_errors
from usage_middleware.store.keys import Resolved
from usage_middleware.store.members import UNMATCHED

#: Finds whose digests these are, as members.
Resolve = Callable[[Collection[bytes]], Resolved]
#: Counts and logs an error of this package, by its reason.
CountError = Callable[[str], None]


class Callers:
    """Asks the key directory. It may be the application's own, and raise anything.

    Attributes:
        admission: which organisations get a tree of their own.
        error: why it could not be asked the last time, if Redis was the reason.
    """

    def __init__(self, resolve: Resolve, known_keys: FindKnownKeys, count_error: CountError, admission: Admission) -> None:
        self.admission = admission
        self._resolve = resolve
        self._known_keys = known_keys
        self._count_error = count_error
        self.error = ""

    def find(self, callers: Iterable[CallerId]) -> Resolved | None:
        """Whose the digests among these callers are; None if the directory can't answer now."""
        self.error = ""
        digests = {caller for caller in callers if isinstance(caller, bytes)}
        if not digests:
            return {}
        try:
            found = self._resolve(digests)
            return {digest: found.get(digest, (*ANONYMOUS_CALLER, False)) for digest in digests}
        except redis_errors() as error:
            # Where the directory is damaged, Redis is not away: calls of credentials wait alone.
            self.error = "" if is_wrong_type(error) else reason(error)
            if not self.error:
                self._count_error("resolve")
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


def put(cells: Cells, who: Resolved | None, outbox: Outbox) -> Cells:
    """Put calls into an outbox, credentials replaced by whose they are; returns those that must wait as `who` is None."""
    others: Cells = {}
    # One tuple for all calls of a credential: there is less for the garbage collector.
    names = {digest: found[:2] for digest, found in (who or {}).items()}
    for key, totals in yielding(cells.items()):
        if not isinstance(key.caller, bytes):
            outbox.put(key, totals)
        elif who is None:
            others[key] = totals
        else:
            caller = names[key.caller] if who[key.caller][2] or _has_opened(key) else ANONYMOUS_CALLER
            outbox.put(replace(key, caller=caller), totals)
    return others


def _has_opened(key: CallKey) -> bool:
    """False where an unknown credential gets no name, since a scanner may make up thousands of them."""
    return key.status not in (401, 403) and not key.endpoint.endswith(UNMATCHED)
