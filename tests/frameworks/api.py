"""What the small API of the tests does, whatever framework it is written in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

from tests.capture.recording import Usage
from tests.capture.shells import Boom


def nothing(request: Any) -> None:
    """The act of a handler that does nothing of its own."""


class Api:
    """What handlers do. A test says what `/track` does with its request, and sees how time passes in `/stream`."""

    def __init__(self, usage: Usage, act: Callable[[Any], object] = nothing) -> None:
        self.usage = usage
        self.act = act

    def boom(self) -> None:
        """What `/boom` does."""
        raise Boom

    def pieces(self) -> Iterator[bytes]:
        """What `/stream` sends, each piece a quarter of a second after the last."""
        for piece in (b"ab", b"cde"):
            self.usage.timer.advance(0.25)
            yield piece

    async def apieces(self) -> AsyncIterator[bytes]:
        """The same for ASGI."""
        for piece in self.pieces():
            yield piece


class Expected(NamedTuple):
    """A request and its label, which differ from the ones that all frameworks share."""

    method: str
    path: str
    label: str
