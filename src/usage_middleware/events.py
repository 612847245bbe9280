"""What capture hands to record: a finished request, as it was noted and as it is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

#: A call counts no more than this of anything: beyond it a float, and so a sorted set of Redis, is not exact, and the sum of
#: a slot has to stay below 2**63.
MAX_COUNT = 10**12

#: Whom a call is counted for: (organisation, key) as members, or the digest of a credential still to be resolved.
CallerId: TypeAlias = tuple[str, str] | bytes
#: caller; `METHOD /template` as a member; a member for each declared dimension; the HTTP status; microseconds to the last
#: byte of the body; bytes of the body; an amount for each declared counter.
CallEvent: TypeAlias = tuple[CallerId, str, tuple[str, ...], int, int, int, tuple[int, ...]]
#: What was noted of a call: when it ended, in seconds since the epoch (0 until record says so); what reads it; then
#: whatever that needs. A list, for one is made within each request: nothing with names is as quick.
RawCall: TypeAlias = list[Any]
#: Makes what is counted of what was noted; None of what can't be counted. Never raises.
Read: TypeAlias = Callable[[RawCall], CallEvent | None]
