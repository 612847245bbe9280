"""How the history of a customer's plans is kept: as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.plans.assignment import Assigned, Change

#: How many changes one customer may have.
MOST_CHANGES = 1_000


class _Kept(msgspec.Struct, omit_defaults=True):
    at: int
    plan: str | None
    anchor: date
    timezone: str
    overrides: dict[str, int] = {}
    now: bool = False


_decode = msgspec.json.Decoder(list[_Kept]).decode


def encode(changes: Sequence[Change]) -> str:
    """Changes as JSON."""
    kept = [_Kept(int(at), one.plan, one.anchor, one.timezone, dict(one.overrides), now) for at, one, now in changes]
    return msgspec.json.encode(kept).decode()


def decode(text: str) -> list[Change] | None:
    """The changes that `encode` wrote; None if they are damaged."""
    try:
        kept = _decode(text)
        return [
            Change(
                one.at,
                Assigned(plan=one.plan, anchor=one.anchor, timezone=one.timezone, overrides=one.overrides),
                one.now,
            )
            for one in kept
        ]
    except (msgspec.MsgspecError, ConfigurationError):
        return None


def with_change(changes: Sequence[Change], new: Change, until: float) -> list[Change]:
    """A history with one more change. It takes the place of those from its own instant to `until`, when it was made.

    They are not the same where the change begins with the half-hour: what was assigned in between does not hold any more.
    """
    return sorted([*(one for one in changes if not new.at <= one.at <= until), new], key=lambda one: one.at)


def lasting(changes: Sequence[Change], oldest: float) -> Sequence[Change]:
    """A history without the changes that ended before `oldest`.

    Raises:
        ConfigurationError: there are more than a history may have.
    """
    gone = sum(one.at <= oldest for one in changes)
    found = changes[max(0, gone - 1) :]
    if len(found) > MOST_CHANGES:
        raise ConfigurationError(f"a customer's plan may change {MOST_CHANGES:,} times while counters are kept, not more")
    return found
