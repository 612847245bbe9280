"""Finds out whose calls they are: a key of the directory in place of a credential's digest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from usage_middleware.events import CallerId, CallKey, Cells
from usage_middleware.gil import yielding
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.sender import CountError
from usage_middleware.store.schema import ANONYMOUS, UNMATCHED
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
            return {digest: found.get(digest, (DEFAULT_ORG, ANONYMOUS, False)) for digest in digests}
        except TROUBLES as error:
            self.trouble = str(error)
        except Exception:  # A directory of the application's own may raise anything.
            self._count_error("resolve")
        return None


def put(cells: Cells, who: Resolved | None, outbox: Outbox) -> Cells:
    """Put calls into an outbox, credentials replaced by whose they are; returns those that must wait as `who` is None."""
    others: Cells = {}
    for key, totals in yielding(cells.items()):
        if not isinstance(key.caller, bytes):
            outbox.put(key, totals)
        elif who is None:
            others[key] = totals
        else:
            outbox.put(replace(key, caller=_caller(key, who[key.caller])), totals)
    return others


def _caller(key: CallKey, resolved: tuple[str, str, bool]) -> tuple[str, str]:
    """Who called. An unknown credential that opened nothing gets no name: a scanner may make up thousands."""
    org, name, known = resolved
    opened = key.status not in (401, 403) and not key.endpoint.endswith(UNMATCHED)
    return (org, name) if known or opened else (DEFAULT_ORG, ANONYMOUS)
