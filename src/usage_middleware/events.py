"""What capture hands to record: a finished request as a middleware saw it, and what is counted of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from usage_middleware.credentials import HeaderValues, RawHeaders

#: A call counts at most this much of anything: beyond it a float, and so a sorted set of Redis, is not exact, and the sum
#: of a slot has to stay below 2**63.
MAX_COUNT = 10**12

#: Whom a call is counted for: (organisation, key) as members, or the digest of a credential still to be resolved.
CallerId: TypeAlias = tuple[str, str] | bytes


class RawCall(msgspec.Struct, gc=False):
    """A finished request as a middleware saw it.

    It is made within each request, by position. The garbage collector does not track it.

    Attributes:
        ended: when, in seconds since the epoch; 0 until record sets it.
        caller: whom it is counted for; None if that is still to be read from the headers.
        headers: the headers of an ASGI scope, where the caller is None.
        header_values: under WSGI, those of `credentials.HEADERS` in their place.
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
    header_values: HeaderValues | None
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
