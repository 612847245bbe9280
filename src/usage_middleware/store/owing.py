"""What workers may still have to deliver, by their own account, so that a reader can tell whether a window is final."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from usage_middleware.periods import DAY

#: So long after its last sign of life a worker that did not end well is ignored: then its spool is not sent any more.
OWING_MS = 7 * DAY * 1000


class Debt(NamedTuple):
    """One worker that lives, or that ended with calls on disk, or that was killed.

    Attributes:
        worker: its name in Redis.
        began_ms: it has no call that finished before then; milliseconds since 1970, as are all.
        through_ms: all its calls that finished before then are counted.
        beat_ms: when it last said so.
    """

    worker: str
    began_ms: int
    through_ms: int
    beat_ms: int

    def encode(self) -> str:
        """The value in Redis."""
        return f"{self.began_ms} {self.through_ms} {self.beat_ms}"


def debts(fields: Mapping[bytes, bytes]) -> list[Debt]:
    """What the hash `owing` says. What another version of this package wrote in another way is left out."""
    found = []
    for worker, value in fields.items():
        numbers = value.split()
        if len(numbers) == 3 and all(number.isdigit() for number in numbers):
            found.append(Debt(worker.decode(errors="replace"), *map(int, numbers)))
    return found


def old_debts(found: Iterable[Debt], now_ms: int) -> list[str]:
    """Workers that nobody waits for any more."""
    return [debt.worker for debt in found if debt.beat_ms < now_ms - OWING_MS]


def is_final(found: Iterable[Debt], end_ms: int, now_ms: int) -> bool:
    """Whether nothing will be added, in the ordinary course, to a window that ends at `end_ms`."""
    if now_ms < end_ms:
        return False
    owing = [debt for debt in found if debt.beat_ms >= now_ms - OWING_MS]
    return now_ms - end_ms >= OWING_MS + DAY * 1000 or all(
        debt.began_ms >= end_ms or debt.through_ms >= end_ms for debt in owing
    )
