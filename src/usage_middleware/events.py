"""A call on its way from the request to Redis: as it was noted, as it is counted, and added up with others like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import add
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store.schema import ANONYMOUS

#: A call counts no more than this of anything: beyond it a float, and so a sorted set of Redis, is not exact, and the sum of
#: a slot has to stay below 2**63.
MAX_COUNT = 10**12

#: Whom a call is counted for: (organisation, key) as members, or the digest of a credential still to be resolved.
CallerId: TypeAlias = tuple[str, str] | bytes
#: The caller where nobody knows better.
ANONYMOUS_CALLER = (DEFAULT_ORG, ANONYMOUS)
#: caller; `METHOD /template` as a member; a member for each declared dimension; the HTTP status; microseconds to the last
#: byte of the body; bytes of the body; an amount for each declared counter.
CallEvent: TypeAlias = tuple[CallerId, str, tuple[str, ...], int, int, int, tuple[int, ...]]
#: What was noted of a call: when it ended, in seconds since the epoch (0 until record says so); what reads it; then
#: whatever that needs. A list, for one is made within each request: nothing with names is as quick.
RawCall: TypeAlias = list[Any]
#: Makes what is counted of what was noted; None of what can't be counted. Never raises.
Read: TypeAlias = Callable[[RawCall], CallEvent | None]


class CallKey(msgspec.Struct, frozen=True, gc=False):
    """What calls share that are added up. The garbage collector does not track it: thousands would set off full collections.

    Attributes:
        minute: the minute in which they finished, seconds since the epoch.
        caller: (organisation, API key) as members (see `store.schema`), or a credential's digest. In the operator's tree the
            key is empty.
        endpoint: `METHOD /template`, as a member.
        tags: a member for each declared dimension, in the order of the settings.
        status: the HTTP status.
    """

    minute: int
    caller: CallerId
    endpoint: str
    tags: tuple[str, ...]
    status: int

    @property
    def owner(self) -> tuple[str, str]:
        """The organisation and the key that the calls count for."""
        return owner_of(self.caller)


class CallTotals(msgspec.Struct, gc=False):
    """What calls with the same key add up to. Not tracked by the garbage collector either.

    Attributes:
        calls: how many.
        latency_us: the sum of their latencies, microseconds.
        sent: the sum of their response bodies, bytes.
        last_ms: when the last of them finished, milliseconds since the epoch.
        counts: the sum of each declared counter, in the order of the settings.
        bins: latency bin (see `latency`) -> calls.
    """

    calls: int
    latency_us: int
    sent: int
    last_ms: int
    counts: tuple[int, ...]
    bins: dict[int, int]

    def merge(self, other: CallTotals) -> None:
        """Add other calls to these."""
        self.calls += other.calls
        self.latency_us += other.latency_us
        self.sent += other.sent
        self.last_ms = max(self.last_ms, other.last_ms)
        self.counts = tuple(map(add, self.counts, other.counts))
        for number, calls in other.bins.items():
            self.bins[number] = self.bins.get(number, 0) + calls

    def copy(self) -> CallTotals:
        """The same totals, to which others can be added."""
        return replace(self, bins=dict(self.bins))


#: Counted calls: what those of each key add up to.
Cells: TypeAlias = dict[CallKey, CallTotals]


def owner_of(caller: CallerId) -> tuple[str, str]:
    """The organisation and the key of a caller; where only a digest is known, those of an anonymous call."""
    return caller if isinstance(caller, tuple) else ANONYMOUS_CALLER


def add_totals(cells: Cells, key: CallKey, totals: CallTotals) -> None:
    """Add calls to others. Where the key is new, `cells` keeps the given totals themselves."""
    mine = cells.setdefault(key, totals)
    if mine is not totals:
        mine.merge(totals)


def calls_in(cells: Mapping[CallKey, CallTotals]) -> int:
    """How many calls these are."""
    return sum(totals.calls for totals in cells.values())
