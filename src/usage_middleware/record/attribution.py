"""Finds out whose calls they are: a key of the directory in place of a credential's digest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from usage_middleware.events import ANONYMOUS_CALLER, CallerId, CallKey, Cells
from usage_middleware.gil import yielding
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.sender import CountError
from usage_middleware.store.schema import UNMATCHED
from usage_middleware.store.writer import TROUBLES

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

    def find(self, callers: Iterable[CallerId]) -> Resolved | None:
        """Whose the digests among these are; None where the directory can't tell now."""
        self.trouble = ""
        digests = {caller for caller in callers if isinstance(caller, bytes)}
        if not digests:
            return {}
        try:
            found = self._resolve(digests)
            return {digest: found.get(digest, (*ANONYMOUS_CALLER, False)) for digest in digests}
        except TROUBLES as error:
            self.trouble = str(error)
        except Exception:  # A directory of the application's own may raise anything.
            self._count_error("resolve")
        return None


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
