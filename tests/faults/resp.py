"""As much of Redis's protocol (RESP2) as a proxy needs: where a request or a reply ends, and what a request asks for."""

from __future__ import annotations

from collections.abc import Iterator

_END = b"\r\n"


class Incomplete(Exception):
    """The rest has not arrived yet."""


def end_of(data: bytes | bytearray, start: int = 0) -> int:
    """Where the value that begins at `start` ends.

    Raises:
        Incomplete: not in these bytes.
    """
    line_end = data.find(_END, start)
    if line_end < 0:
        raise Incomplete
    kind, body = data[start : start + 1], line_end + len(_END)
    if kind not in (b"$", b"*"):
        return body
    size = int(data[start + 1 : line_end])
    if kind == b"$":
        end = body if size < 0 else body + size + len(_END)
        if end > len(data):
            raise Incomplete
        return end
    for _ in range(size):
        body = end_of(data, body)
    return body


def values(buffer: bytearray) -> Iterator[bytes]:
    """Take every whole value off the front of a buffer."""
    while buffer:
        try:
            end = end_of(buffer)
        except Incomplete:
            return
        yield bytes(buffer[:end])
        del buffer[:end]


def name_of(request: bytes) -> str:
    """The command that a request asks for, in capitals."""
    start = request.find(_END) + len(_END)
    start = request.find(_END, start) + len(_END)
    return request[start : request.find(_END, start)].decode().upper()


def encoded(*words: bytes | str | int) -> bytes:
    """A request."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
