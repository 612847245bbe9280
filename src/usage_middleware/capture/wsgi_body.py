"""The body of a WSGI response on its way to the server: counted, and the end of its call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from usage_middleware.capture.wsgi import EnvironCall


def counted(call: EnvironCall, body: Iterable[bytes]) -> Iterable[bytes]:
    """What the server gets in place of a body. A file of the server's own kind stays what it is, and what is no body at all."""
    if not hasattr(body, "__iter__"):
        call.finish()
        return body
    wrapper = call.notes.get("wsgi.file_wrapper")
    if isinstance(wrapper, type) and isinstance(body, wrapper):
        _follow(call, body)
        return body
    return _SizedBody(call, body) if hasattr(body, "__len__") else _Body(call, body)


class _Guard:
    """Every part of a response refers to it. When it is garbage-collected, no part is left that could finish the call.

    Some middlewares further out forget `close()`. Their requests are counted all the same.
    """

    __slots__ = ("_call",)

    def __init__(self, call: EnvironCall) -> None:
        self._call = call

    def __del__(self) -> None:
        if not self._call.done:
            self._call.stopped = self._call.capture.timer()
            # This may run anywhere, also while the recorder's lock is held. So the next request finishes the call.
            self._call.capture.abandoned.append(self._call.finish)


class _Body:
    """The response of an application, passed on piece by piece. The call is finished when the server closes it."""

    __slots__ = ("_body", "_call", "_closed", "_guard", "_pieces")

    def __init__(self, call: EnvironCall, body: Iterable[bytes]) -> None:
        self._call = call
        self._body = body
        self._guard = _Guard(call)
        self._pieces: Iterator[bytes] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        # Always the same iterator: a server that asks twice must not get the body twice.
        if self._pieces is None:
            self._pieces = _pieces(self._call, self._body, self._guard)
        return self._pieces

    def __next__(self) -> bytes:
        return next(iter(self))

    def __getattr__(self, name: str) -> Any:
        # Some applications return an object that has more to say to a caller in Python: Django its response. Whether there is
        # a `__len__` is for our own class to say.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._body, name)

    def __bytes__(self) -> bytes:
        return bytes(cast(Any, self._body))

    def close(self) -> None:
        """Close the application's response, and finish the call."""
        if self._closed:
            return
        self._closed = True
        self._call.stopped = self._call.capture.timer()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._call.finish()


class _SizedBody(_Body):
    """As `_Body`, where the server can see how many pieces there are: from a single one it derives `Content-Length`."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(cast(Sized, self._body))


def _pieces(call: EnvironCall, body: Iterable[bytes], guard: _Guard) -> Iterator[bytes]:
    """The pieces of a body, counted. A generator, because servers iterate over one faster than over an object of ours.

    It refers to `guard`, because a server may keep the iterator alone.
    """
    try:
        for piece in body:
            call.began = True
            if type(piece) is bytes:
                call.sent += len(piece)
            else:
                call.count_bytes(piece)
            yield piece
    except GeneratorExit:
        raise
    except BaseException as error:
        call.failed(error)
        raise


def _follow(call: EnvironCall, file: Any) -> None:
    """Finish a call when the server closes a file that it recognises by its type, and may send without iterating over it."""
    call.sent += _size(file, call.headers)
    call.began = True
    close = getattr(file, "close", None)

    def closing() -> None:
        call.stopped = call.stopped or call.capture.timer()
        try:
            if close is not None:
                close()
        finally:
            call.finish()

    try:
        file.close = closing
    except (AttributeError, TypeError):  # a wrapper in C takes no attributes
        call.finish()


def _size(file: Any, headers: Iterable[tuple[str, str]]) -> int:
    """How many bytes of a file will be sent: what the response says, else what is left of the file."""
    for name, value in headers:
        if name.lower() == "content-length":
            return int(value)
    try:
        opened = file.filelike
        return max(os.fstat(opened.fileno()).st_size - int(opened.tell()), 0)
    except (AttributeError, OSError, ValueError):
        return 0
