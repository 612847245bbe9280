"""A number as a section has it, and as it was counted.

They are the same, but for `last_ms`: in a section it is counted from the start of its slot, so that it takes few bytes.
"""

from __future__ import annotations

from usage_middleware.periods import Slot
from usage_middleware.store.schema import LAST


def stored(measure: str, counted: int, slot: Slot) -> int:
    """A number as a section has it. It is never 0: what is 0 is not there."""
    if measure != LAST:
        return counted
    since = counted - slot.start * 1000
    return since + 1 if since >= 0 else since


def restored(measure: str, number: int, slot: Slot) -> int:
    """A number as it was counted."""
    if measure != LAST:
        return number
    return slot.start * 1000 + (number - 1 if number > 0 else number)
