"""Finds out whose calls they are: a key of the directory in place of the digests of credentials."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from usage_middleware.credentials import digests_in
from usage_middleware.errors import KeyStoreError
from usage_middleware.events import ANONYMOUS_CALLER, UNKNOWN_CALLER, CallerId, CallKey, Cells
from usage_middleware.gil import yielding
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.record.admission import Admission
from usage_middleware.record.known_credentials import KnownCredentials, decisive
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.overflow import FindKnownKeys
from usage_middleware.store.driver_errors import is_wrong_type, reason, redis_errors
from usage_middleware.store.keys import Answers, Owner, Resolved

logger = logging.getLogger("usage_middleware")

#: Finds whose digests these are, as members.
Resolve = Callable[[Collection[bytes]], Answers | Resolved]
#: Of the names of credentials that nobody knows, those that get a row of their own.
Admit = Callable[[Collection[str]], Collection[str]]
#: Counts and logs an error of this package, by its reason.
CountError = Callable[[str], None]

_NOBODY = Owner(*UNKNOWN_CALLER, False)


def admit_all(names: Collection[str]) -> Collection[str]:
    """Gives every name a row, for a recorder without bounds."""
    return names


class Callers:
    """Asks the key directory. It may be the application's own, and raise anything.

    Attributes:
        admission: which organisations get a tree of their own.
        known: what all that was resolved says of credentials.
        error: why it could not be asked the last time, if Redis was the reason.
        store_error: how the application's own key store failed the last time, if it did.
    """

    def __init__(
        self,
        resolve: Resolve,
        known_keys: FindKnownKeys,
        count_error: CountError,
        known: KnownCredentials,
        admission: Admission,
        admit: Admit = admit_all,
    ) -> None:
        self.admission = admission
        self._resolve = resolve
        self._known_keys = known_keys
        self._count_error = count_error
        self._admit = admit
        self.known = known
        self.error = self.store_error = ""
        self._named: set[bool] = set()

    def find(self, keys: Iterable[CallKey], others: Iterable[CallerId] = ()) -> Resolved | None:
        """Whose the digests of these calls, and of other callers, are; None if the directory can't answer now."""
        self.error = ""
        asked = [key for key in keys if isinstance(key.caller, bytes)]
        callers = {caller for some in ([key.caller for key in asked], others) for caller in some if isinstance(caller, bytes)}
        if not callers:
            return {}
        try:
            found = self._owners(callers, asked)
        except KeyStoreError as error:
            self.store_error = str(error)
            self._count_error("key store")
        except redis_errors() as error:
            # Where the directory is damaged, Redis is not away: calls of credentials wait alone.
            self.error = "" if is_wrong_type(error) else reason(error)
            if not self.error:
                self._count_error("resolve")
        except Exception:
            self._count_error("resolve")
        else:
            self.store_error = ""
            self.note_names([owner[:2] for owner in found.values() if owner.known])
            return found
        return None

    def _owners(self, callers: Collection[bytes], keys: Iterable[CallKey]) -> Resolved:
        digests = {digest for caller in callers for digest in digests_in(caller)}
        answers = self._resolve(digests)
        found = {digest: _owner(answers.get(digest)) for digest in digests}
        wanted = dict.fromkeys(_names(keys, found))
        admitted = set(self._admit(wanted)) if wanted else set()
        rows = {name: name in admitted for name in wanted}
        self.known.learn(found, rows)
        return {digest: owner if owner.known or rows.get(owner.key, True) else _NOBODY for digest, owner in found.items()}

    def note_names(self, owners: Iterable[tuple[str, str]]) -> None:
        """Log once if one of the customers of an application is called `default`."""
        if len(self._named) == 2:
            return
        # Reserved keys, such as `(anonymous)`, are those of nobody.
        self._named.update(org == DEFAULT_ORG for org, key in owners if org != DEFAULT_ORG or not key.startswith("("))
        if len(self._named) == 2:
            logger.warning(
                "usage: a caller's organisation is named %r, beside others. Calls of nobody and of unknown API keys "
                "are counted there too: whoever may see that organisation sees them. Give it another name.",
                DEFAULT_ORG,
            )

    def known_keys(self, org: str, ids: Collection[str]) -> set[str]:
        """Which of these ids are keys of an organisation in the directory; none if it can't answer now."""
        try:
            return set(self._known_keys(org, ids)) & set(ids)
        except Exception:
            self._count_error("known_keys")
            return set()


def _owner(answer: tuple[Any, ...] | None) -> Owner:
    if answer is None:
        return _NOBODY
    return answer if isinstance(answer, Owner) else Owner(*answer)


def _names(keys: Iterable[CallKey], found: Resolved) -> Iterator[str]:
    """The names that calls of unknown credentials would have."""
    revoked_at = {digest: owner.revoked_at for digest, owner in found.items() if owner.known}
    for key in keys:
        if key.caller not in revoked_at:
            assert isinstance(key.caller, bytes)
            for digest in decisive(key, digests_in(key.caller), revoked_at)[:1]:
                if digest not in revoked_at and found[digest] is not _NOBODY:
                    yield found[digest].key


def put(cells: Cells, who: Resolved | None, outbox: Outbox) -> tuple[Cells, int]:
    """Put calls into an outbox, credentials replaced by whose they are.

    Returns:
        The calls that must wait as `who` is None, and how many calls showed active keys of more than one owner.
    """
    others: Cells = {}
    conflicting = 0
    # One tuple for all calls of a credential: there is less for the garbage collector.
    shared = {digest: owner[:2] for digest, owner in (who or {}).items()}
    keys = {digest: owner.revoked_at for digest, owner in (who or {}).items() if owner.known}
    for key, totals in yielding(cells.items()):
        if not isinstance(key.caller, bytes):
            outbox.put(key, totals)
        elif who is None:
            others[key] = totals
        else:
            found = decisive(key, digests_in(key.caller), keys)
            if len(found) > 1 and len({shared[digest] for digest in found}) > 1:
                conflicting += totals.calls
            outbox.put(replace(key, caller=shared[found[0]] if found else ANONYMOUS_CALLER), totals)
    return others, conflicting


def organisation_of(caller: CallerId, who: Resolved) -> str | None:
    """The organisation that dropped calls are counted for; None if nobody could be asked yet."""
    if not isinstance(caller, bytes):
        return caller[0]
    shown = digests_in(caller)
    if any(digest not in who for digest in shown):
        return None
    keys = [who[digest] for digest in shown if who[digest].known]
    owner = next((owner for owner in keys if owner.revoked_at is None), keys[0] if keys else _NOBODY)
    return owner.org
