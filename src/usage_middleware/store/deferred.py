"""Results of reads that are sent later, all together."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar

import msgspec

from usage_middleware.errors import UsageError
from usage_middleware.gil import rest
from usage_middleware.store.reads import Read

T = TypeVar("T")
U = TypeVar("U")


class Pending(list[Read]):
    """Reads that are sent together, and whether they were."""

    done = False


class Given(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Returns what was read. There may be thousands: the garbage collector need not look at them."""

    found: T

    def __call__(self) -> T:
        """What was read."""
        return self.found


class Deferred(Generic[T]):
    """The result of a read, which is there after `ReadBatch.read`."""

    __slots__ = ("_get", "_pending")

    def __init__(self, pending: Pending, get: Callable[[], T]) -> None:
        self._pending = pending
        self._get = get

    @property
    def value(self) -> T:
        """The result.

        Raises:
            UsageError: the batch was not read yet.
        """
        if not self._pending.done:
            raise UsageError("the batch was not read yet")
        rest()
        return self._get()

    def map(self, make: Callable[[T], U]) -> Deferred[U]:
        """The result of `make` with this result."""
        return Deferred(self._pending, lambda: make(self._get()))

    def kept(self) -> Deferred[T]:
        """The same result, which is worked out once, however often it is asked for."""
        return Deferred(self._pending, cache(self._get))
