"""What a process knows of the credentials that calls show, so that made-up ones take no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from usage_middleware.credentials import digests_in
from usage_middleware.events import ANONYMOUS_CALLER, UNKNOWN_CALLER, CallerId, CallKey
from usage_middleware.store.keys import Owner
from usage_middleware.store.members import UNKNOWN

#: So many keys of the directory, and so many credentials that nobody knows, are remembered; the oldest are forgotten first.
MOST_KEYS, MOST_UNKNOWN = 50_000, 10_000
#: For how long a credential counts as unknown, seconds: it may be put into the directory.
UNKNOWN_SECONDS = 60.0
#: From this status on a call has not succeeded.
_FAILED = 400


def is_active(revoked_at: float | None, minute: int) -> bool:
    """Whether a key was good for a whole minute, which begins at `minute`, in seconds since the epoch.

    >>> is_active(None, 120), is_active(180.0, 120), is_active(179.0, 120)
    (True, True, False)
    """
    return revoked_at is None or minute <= revoked_at - 60


def decisive(key: CallKey, shown: Sequence[bytes], keys: Mapping[bytes, float | None]) -> Sequence[bytes]:
    """The credentials that say who called, the most important first; empty for nobody.

    These are the active keys, where there are several all of them. Else a revoked key has what was refused, and of unknown
    credentials the first has what was not. Whether a key was active is asked of the minute of the call, which may have waited
    for long.

    Args:
        key: the calls.
        shown: the digests of the credentials that they showed, the most important first.
        keys: of those that are keys of the directory, when they were revoked.
    """
    active = [digest for digest in shown if digest in keys and is_active(keys[digest], key.minute)]
    if active:
        return active
    if key.status >= _FAILED:
        revoked = [digest for digest in shown if digest in keys]
        if revoked:
            return revoked[:1]
    return () if key.is_refused else [digest for digest in shown if digest not in keys][:1]


class KnownCredentials:
    """Digests of credentials: of keys in the directory, and of those that nobody knows. Others are pending.

    Written by the thread that delivers, read by all: each step is one access to a dictionary.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: When each was revoked.
        self._keys: dict[bytes, float | None] = {}
        #: When it was learnt that nobody knows it, and whether it has a row of its own; None until one was asked for.
        self._unknown: dict[bytes, tuple[float, bool | None]] = {}

    def learn(self, found: Mapping[bytes, Owner], rows: Mapping[str, bool]) -> None:
        """Remember what was resolved, and which names have a row of their own, of those for which one was asked."""
        now = self._clock()
        for digest, owner in found.items():
            # The newest stand last.
            self._keys.pop(digest, None)
            _, row = self._unknown.pop(digest, (0.0, None))
            if owner.known:
                self._keys[digest] = owner.revoked_at
            else:
                self._unknown[digest] = now, rows.get(owner.key, row) if owner.key != UNKNOWN else False
        _forget(self._keys, MOST_KEYS)
        _forget(self._unknown, MOST_UNKNOWN)

    def caller_of(self, key: CallKey) -> CallerId | None:
        """Whom calls are counted for, as far as that is known; None if one of their credentials is pending."""
        caller = key.caller
        if not isinstance(caller, bytes) or caller in self._keys:
            return caller
        shown = digests_in(caller)
        if not all(digest in self._keys or self._is_unknown(digest) for digest in shown):
            return None
        who = decisive(key, shown, self._keys)
        if not who:
            return ANONYMOUS_CALLER
        has_row = True if who[0] in self._keys else self._unknown.get(who[0], (0.0, None))[1]
        return b"".join(who) if has_row else UNKNOWN_CALLER if has_row is False else None

    def without_pending(self, key: CallKey) -> CallerId | None:
        """Whom calls are counted for if there is no room to wait for an answer: the keys among their credentials, or None."""
        assert isinstance(key.caller, bytes)
        return b"".join([digest for digest in digests_in(key.caller) if digest in self._keys]) or None

    def is_key(self, caller: bytes) -> bool:
        """True if a key of the directory is among these credentials."""
        return any(digest in self._keys for digest in digests_in(caller))

    def _is_unknown(self, digest: bytes) -> bool:
        known = self._unknown.get(digest)
        return known is not None and 0 <= self._clock() - known[0] < UNKNOWN_SECONDS


def _forget(entries: dict[bytes, Any], most: int) -> None:
    for oldest in list(entries)[:-most] if len(entries) > most else ():
        entries.pop(oldest, None)
