"""A call on its way from the request to Redis: as a middleware saw it, as it is counted, and added up with others like it."""

from __future__ import annotations

from collections.abc import Mapping
from operator import add
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from usage_middleware.credentials import Values
from usage_middleware.headers import RawHeaders
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store.members import ANONYMOUS, UNKNOWN, UNMATCHED

#: A call counts at most this much of anything: beyond it a float, and so a sorted set of Redis, is not exact, and the sum
#: of a slot has to stay below 2**63.
MAX_COUNT = 10**12

#: Whom a call is counted for: (organisation, key) as members, or the digests of the credentials that it showed, in one piece
#: and still to be resolved (see `credentials.digests_in`).
CallerId: TypeAlias = tuple[str, str] | bytes
#: The caller of a request without a credential, or with one that nobody knows and that opened nothing.
ANONYMOUS_CALLER = (DEFAULT_ORG, ANONYMOUS)
#: The caller of a request with a credential that nobody knows, beyond those that have a row of their own.
UNKNOWN_CALLER = (DEFAULT_ORG, UNKNOWN)
#: Answers that open nothing: unknown credentials get no name for them, since a scanner may make up thousands.
REFUSED = frozenset({400, 401, 403, 404, 405, 422, 429})


class RawCall(msgspec.Struct, gc=False):
    """A finished request as a middleware saw it.

    It is made within each request, by position. The garbage collector does not track it.

    Attributes:
        ended: when, in seconds since the epoch; 0 until record sets it.
        caller: whom it is counted for; None if that is still to be read from the headers.
        headers: the headers of an ASGI scope, where the caller is None.
        shown: in their place what each of the `credentials` has, where that had to be read within the request.
        method: the HTTP method.
        template: the route's template, or the reserved word for none.
        tags: what the application said, by dimension.
        status: the HTTP status.
        latency: seconds to the last byte of the body.
        sent: bytes of the body.
        counts: what the application counted, by counter.
    """

    ended: float
    caller: CallerId | None
    headers: RawHeaders
    shown: Values | None
    method: str
    template: str
    tags: Mapping[str, str] | None
    status: int
    latency: float
    sent: int
    counts: Mapping[str, int] | None


class CallEvent(msgspec.Struct, gc=False):
    """What is counted of a finished request.

    Attributes:
        caller: whom it is counted for.
        endpoint: `METHOD /template` as a member.
        tags: a member for each declared dimension.
        status: the HTTP status.
        latency_us: microseconds to the last byte of the body.
        sent: bytes of the body.
        counts: an amount for each declared counter.
    """

    caller: CallerId
    endpoint: str
    tags: tuple[str, ...]
    status: int
    latency_us: int
    sent: int
    counts: tuple[int, ...]


class CallKey(msgspec.Struct, frozen=True, gc=False):
    """What calls share that are added up. The garbage collector does not track it: thousands would set off full collections.

    Attributes:
        minute: the minute in which they finished, seconds since the epoch.
        caller: (organisation, API key) as members (see `store.schema`), or credentials' digests. In the operator's tree the
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
    def is_refused(self) -> bool:
        """True where an unknown credential gets no name."""
        return self.status in REFUSED or self.endpoint.endswith(UNMATCHED)

    @property
    def owner(self) -> tuple[str, str]:
        """The organisation and the key that the calls count for; where only a digest is known, those of an anonymous call."""
        caller = self.caller
        return caller if isinstance(caller, tuple) else ANONYMOUS_CALLER


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

    def plus(self, other: CallTotals) -> CallTotals:
        """These and other calls together; both stay as they are."""
        found = self.copy()
        found.merge(other)
        return found


#: Counted calls: what those of each key add up to.
Cells: TypeAlias = dict[CallKey, CallTotals]


def add_totals(cells: Cells, key: CallKey, totals: CallTotals) -> None:
    """Add calls to others. Where the key is new, `cells` keeps the given totals themselves."""
    mine = cells.setdefault(key, totals)
    if mine is not totals:
        mine.merge(totals)


def calls_in(cells: Mapping[CallKey, CallTotals]) -> int:
    """How many calls these are."""
    return sum(totals.calls for totals in cells.values())
