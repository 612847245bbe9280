"""Makes the event that is counted of each finished request: members in place of names, a number for each counter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from usage_middleware.credentials import Credentials, caller_digest
from usage_middleware.events import ANONYMOUS_CALLER, MAX_COUNT, CallerId, CallEvent, RawCall
from usage_middleware.options import NONE, Settings
from usage_middleware.store.members import METHODS, endpoint_member, member

_MAX_LABELS = 4096
#: Longer names are not cached: hardly anybody sends one twice, and they would fill the memory.
_MAX_CACHED = 256
_WITHOUT_BODY = frozenset({204, 304})

_cached_member = lru_cache(maxsize=8192)(member)


class Normalizer:
    """Makes a `CallEvent` of a `RawCall`. It is run for many calls together, outside the requests."""

    def __init__(self, settings: Settings, credentials: Credentials | None = None) -> None:
        self._credentials = credentials or Credentials()
        self.dimensions = settings.dimensions
        self.counters = settings.counters
        #: The counts of a call that counts nothing.
        self.zeros = (0,) * len(self.counters)
        self._untagged = tuple([settings.untagged.get(name, NONE) for name in self.dimensions])
        self._tagged = tuple(zip(self.dimensions, self._untagged, strict=True))
        self._labels: dict[tuple[str, str], str] = {}

    def event(self, raw: RawCall) -> CallEvent:
        """What is counted of a call. Raises whatever a call brings about that holds something else than declared."""
        method, template, tags, status, counts = raw.method, raw.template, raw.tags, raw.status, raw.counts
        return CallEvent(
            raw.caller or self._caller(raw),
            self._labels.get((method, template)) or self._label(method, template),
            self._untagged if tags is None else self._members(tags),
            # An application may send a number that is no status: it must not become a counter of its own.
            status if 100 <= status <= 999 else 500,
            int(raw.latency * 1e6) if raw.latency > 0 else 0,
            _bytes(method, status, raw.sent),
            self.zeros if counts is None else tuple([counts.get(name, 0) for name in self.counters]),
        )

    def _caller(self, raw: RawCall) -> CallerId:
        shown = raw.shown
        secrets = self._credentials.in_headers(raw.headers) if shown is None else self._credentials.in_values(shown)
        return caller_digest(secrets) if secrets else ANONYMOUS_CALLER

    def _label(self, method: str, template: str) -> str:
        label = endpoint_member(method, template)
        if len(self._labels) < _MAX_LABELS and method in METHODS:
            self._labels[method, template] = label
        return label

    def _members(self, tags: Mapping[str, str]) -> tuple[str, ...]:
        return tuple([_tag(tags[name]) or untagged if name in tags else untagged for name, untagged in self._tagged])


def _bytes(method: str, status: int, sent: int) -> int:
    if method == "HEAD" or status in _WITHOUT_BODY:
        return 0
    return sent if 0 <= sent <= MAX_COUNT else min(max(sent, 0), MAX_COUNT)


def _tag(text: str) -> str:
    """The member of a tag's value; an empty one stays empty."""
    return _cached_member(text) if 0 < len(text) <= _MAX_CACHED else text and member(text)
