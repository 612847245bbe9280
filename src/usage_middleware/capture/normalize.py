"""Reads finished calls, many together: makes of what was noted of a request what the recorder counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from usage_middleware.capture.identity import shown_in_headers, shown_in_values
from usage_middleware.events import MAX_COUNT, CallerId, CallEvent, RawCall
from usage_middleware.store.schema import METHODS, OTHER_METHOD, endpoint_member, member

_MAX_LABELS = 4096
#: Longer names are not worth remembering.
_REMEMBERED = 256
_BODILESS = frozenset({204, 304})

_member = lru_cache(maxsize=8192)(member)


class Normalizer:
    """The readers: one for each way in which a call tells who made it.

    None of them raises: a call that can't be read is reported to `count_error`.
    """

    def __init__(
        self, dimensions: Sequence[str], untagged: Sequence[str], counters: Sequence[str], count_error: Callable[[str], None]
    ) -> None:
        self._places = tuple(zip(dimensions, untagged, strict=True))
        self._untagged = tuple(untagged)
        self._counters = tuple(counters)
        self._zeros = (0,) * len(self._counters)
        self._count_error = count_error
        self._labels: dict[tuple[str, str], str] = {}

    # One of these is the second item of what a shell notes. The others: when, who, and so on as `_finished` takes it apart.

    def known(self, noted: RawCall) -> CallEvent | None:
        """Of a call whose caller is known."""
        return self._finished(noted, _as_it_is)

    def headers(self, noted: RawCall) -> CallEvent | None:
        """Of a call that came by ASGI, with its headers."""
        return self._finished(noted, shown_in_headers)

    def values(self, noted: RawCall) -> CallEvent | None:
        """Of a call that came by WSGI, with the values of the headers that may hold an API key."""
        return self._finished(noted, shown_in_values)

    def _finished(self, noted: RawCall, member_of: Callable[[Any], CallerId]) -> CallEvent | None:
        try:
            _, _, who, method, template, tags, status, latency, sent, counts = noted
            return (
                member_of(who),
                self._labels.get((method, template)) or self.label(method, template),
                self._untagged if tags is None else self._tagged(tags),
                # What is no status, as an application may send by mistake, must not become a counter of its own each time.
                status if 100 <= status <= 999 else 500,
                int(latency * 1e6) if latency > 0 else 0,
                _bytes(method, status, sent),
                self._zeros if counts is None else tuple([counts.get(name, 0) for name in self._counters]),
            )
        except Exception:
            self._count_error("call unreadable")
            return None

    def label(self, method: str, template: str) -> str:
        """The endpoint's member, remembered."""
        label = self._labels.get((method, template))
        if label is None:
            verb = method if method in METHODS else OTHER_METHOD
            label = endpoint_member(verb, template)
            if len(self._labels) < _MAX_LABELS and verb == method:
                self._labels[method, template] = label
        return label

    def _tagged(self, tags: Mapping[str, str]) -> tuple[str, ...]:
        return tuple([_tag(tags[name]) or none if name in tags else none for name, none in self._places])


def _bytes(method: str, status: int, sent: int) -> int:
    return 0 if method == "HEAD" or status in _BODILESS else sent if 0 <= sent <= MAX_COUNT else min(max(sent, 0), MAX_COUNT)


def _tag(text: str) -> str:
    """A tag's value as a member; an empty one stays empty."""
    return _member(text) if 0 < len(text) <= _REMEMBERED else text and member(text)


def _as_it_is(member: CallerId) -> CallerId:
    return member
