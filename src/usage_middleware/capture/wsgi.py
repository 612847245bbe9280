"""`WSGIUsageMiddleware`: counts the requests of a WSGI application. Bodies, and the server's own file wrapper, stay intact."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIApplication

from usage_middleware.capture.call import Call
from usage_middleware.capture.capture import Capture, Captured, capture_of
from usage_middleware.capture.frameworks import WSGI, TemplateFinder
from usage_middleware.capture.identity import NOBODY, Environ, EnvironRequest, checked_caller, is_async, values_in_environ
from usage_middleware.capture.templates import wsgi_text
from usage_middleware.errors import ConfigurationError
from usage_middleware.events import CallerId
from usage_middleware.request_keys import CALL, EXCLUDE


class WSGIUsageMiddleware:
    """Counts every request of a WSGI application, once, when the server closes its response.

    Raises:
        ConfigurationError: if `app` is an ASGI application, `identify` is async, or `usage` is no `Usage`.
    """

    def __init__(self, app: WSGIApplication, usage: Captured) -> None:
        if is_async(app):
            raise ConfigurationError("WSGIUsageMiddleware is for WSGI; around an ASGI application use UsageMiddleware")
        self.app = app
        self.capture = capture_of(usage)
        if self.capture.asks_who is not None and is_async(self.capture.asks_who):
            raise ConfigurationError("identify: an async function can't be awaited under WSGI; give a plain one")
        self._excludes_paths = self.capture.exclusion.has_paths
        self.templates = TemplateFinder(WSGI, app, self.capture.count_error)
        self.capture.wraps(app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request with the wrapped application."""
        try:
            if self.capture.abandoned:
                self.capture.finish_abandoned()
            # Nothing more is called than need be: see asgi.py.
            if (CALL in environ or "HTTP_ORIGIN" in environ or self._excludes_paths) and self._passes(environ):
                call = None
            else:
                call = environ[CALL] = _EnvironCall(self, environ, start_response)
        except Exception:
            self.capture.count_error("request unreadable")
            call = None
        if call is None:
            return self.app(environ, start_response)
        try:
            body = self.app(environ, cast(StartResponse, call.start_response))
        except BaseException as error:
            call.failed(error)
            call.finish()
            raise
        return call.respond(body)

    def _passes(self, environ: Environ) -> bool:
        """True for what is not counted, or already is by a middleware further out."""
        outer = environ.get(CALL)
        if isinstance(outer, Call) and not outer.done:
            return True
        exclusion = self.capture.exclusion
        if exclusion.has_paths and exclusion.covers(wsgi_text(environ.get("PATH_INFO", ""))):
            return True
        preflight = "HTTP_ORIGIN" in environ and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        return preflight and environ["REQUEST_METHOD"] == "OPTIONS"


class _EnvironCall(Call):
    """A request on its way through: stands between the application and the server's `start_response`."""

    __slots__ = ("_headers", "_shell", "_start", "_template", "_write", "began", "stopped")

    capture: Capture

    def __init__(self, shell: WSGIUsageMiddleware, environ: Environ, start_response: StartResponse) -> None:
        # All of `Call.__init__` here: a second call for each request is worth avoiding.
        capture = self.capture = shell.capture
        self.notes = environ
        self.method = environ["REQUEST_METHOD"]
        self.path = environ.get("PATH_INFO", "")
        self.status = 0
        self.sent = 0
        self.caller = None
        self.tags = None
        self.counts = None
        self.done = False
        self._shell = shell
        self._start = start_response
        self._write: Callable[[bytes], object] | None = None
        self._headers: list[tuple[str, str]] = []
        self._template: str | None = None
        #: True once the server got a piece of body, and sent the headers: until then it answers an exception with 500.
        self.began = False
        #: When the last byte was sent, on the capture's timer.
        self.stopped: float | None = None
        self.started = capture.timer()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        """The server's `start_response`, noticing the status and, while the framework still knows it, the route."""
        write = self._start(status, headers) if exc_info is None else self._start(status, headers, exc_info)
        self._write = write
        self._headers = headers
        try:
            self.status = int(status[:3])
            self._template = self._shell.templates.find(self)
        except Exception:
            self.capture.count_error("response unreadable")
        return self.write

    def write(self, data: bytes) -> object:
        """The server's `write`, counting."""
        assert self._write is not None
        written = self._write(data)
        self.saw(data)
        return written

    def saw(self, chunk: bytes) -> None:
        """Count a piece of body."""
        self.began = True
        try:
            self.sent += len(chunk)
        except Exception:
            self.capture.count_error("body unreadable")

    def failed(self, error: BaseException) -> None:
        """The application raised: 500, unless bytes of its response are out already."""
        if not self.began:
            self.status = 500
        if self._template is None:
            self._template = self._shell.templates.find(self, error)

    def respond(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """What the server gets in place of the application's response; a file of the server's own kind is its own."""
        try:
            wrapper = self.notes.get("wsgi.file_wrapper")
            if isinstance(wrapper, type) and isinstance(body, wrapper):
                self._follow(body)
                return body
            return _SizedBody(self, body) if hasattr(body, "__len__") else _Body(self, body)
        except Exception:
            self.capture.count_error("response unreadable")
            self.finish()
            return body

    def _follow(self, file: Any) -> None:
        """Finish when the server closes a file that it recognises by its type, and may send without iterating over it."""
        self.sent += _size(file, self._headers)
        self.began = True
        close = getattr(file, "close", None)

        def closing() -> None:
            self.stopped = self.stopped or self.capture.timer()
            try:
                if close is not None:
                    close()
            finally:
                self.finish()

        try:
            file.close = closing
        except (AttributeError, TypeError):  # a wrapper in C takes no attributes
            self.finish()

    def finish(self) -> None:
        """Leave the call to the recorder, once."""
        if self.done:
            return
        self.done = True
        capture, notes = self.capture, self.notes
        latency = (capture.timer() if self.stopped is None else self.stopped) - self.started
        self.status = self.status or 500
        try:
            if (EXCLUDE not in notes and capture.exclusion.asks is None) or not capture.is_excluded(self, self._request):
                who: object
                if self.caller is not None:
                    read, who = capture.reading.known, self.caller.member
                elif capture.asks_who is None:
                    read, who = capture.reading.values, values_in_environ(notes)
                else:
                    read, who = capture.reading.known, self._identified(capture.asks_who)
                template = self._template or self._shell.templates.fallback(self)
                capture.take([0.0, read, who, self.method, template, self.tags, self.status, latency, self.sent, self.counts])
        except Exception:
            capture.count_error("call not recorded")
        # The environ would keep the call alive, and the call the environ.
        notes.pop(CALL, None)

    def _identified(self, identify: Callable[[Any], Any]) -> CallerId:
        try:
            caller = identify(self._request())
            if inspect.iscoroutine(caller):
                caller.close()
            return NOBODY if caller is None else checked_caller(caller).member
        except Exception:
            self.capture.count_error("identify raised")
            return NOBODY

    def _request(self) -> EnvironRequest:
        return EnvironRequest(cast(Environ, self.notes), self.method, wsgi_text(self.path))


class _Guard:
    """Held by whatever of a response somebody still holds. When it goes before the call is finished, nobody will finish it.

    A middleware further out that forgets `close()`, as some do, must not make the request vanish.
    """

    __slots__ = ("_call",)

    def __init__(self, call: _EnvironCall) -> None:
        self._call = call

    def __del__(self) -> None:
        if not self._call.done:
            self._call.stopped = self._call.capture.timer()
            self._call.capture.abandon(self._call.finish)


class _Body:
    """The response of an application, passed on piece by piece; the call is finished when the server closes it."""

    __slots__ = ("_body", "_call", "_closed", "_guard", "_pieces")

    def __init__(self, call: _EnvironCall, body: Iterable[bytes]) -> None:
        self._call = call
        self._body = body
        self._guard = _Guard(call)
        self._pieces: Iterator[bytes] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        # Always the same one: whoever asks an iterator for its iterator twice must not get the body twice.
        if self._pieces is None:
            self._pieces = _pieces(self._call, self._body, self._guard)
        return self._pieces

    def __next__(self) -> bytes:
        return next(iter(self))

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


def _pieces(call: _EnvironCall, body: Iterable[bytes], guard: _Guard) -> Iterator[bytes]:
    """The pieces of a body, counted. A generator, for servers go through one faster than through anything of ours.

    It holds on to `guard`, for somebody may hold the iterator alone.
    """
    try:
        for piece in body:
            call.began = True
            if type(piece) is bytes:
                call.sent += len(piece)
            else:
                call.saw(piece)
            yield piece
    except GeneratorExit:
        raise
    except BaseException as error:
        call.failed(error)
        raise


class _SizedBody(_Body):
    """As `_Body`, where the server can see how many pieces there are: of a single one it derives `Content-Length`."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(cast(Sized, self._body))


def _size(file: Any, headers: Iterable[tuple[str, str]]) -> int:
    """How many bytes of a file will be sent: what the response says, else what is left of it."""
    for name, value in headers:
        if name.lower() == "content-length":
            return int(value)
    try:
        opened = file.filelike
        return max(os.fstat(opened.fileno()).st_size - int(opened.tell()), 0)
    except (AttributeError, OSError, ValueError):
        return 0
