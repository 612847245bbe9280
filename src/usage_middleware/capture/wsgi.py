"""`WSGIUsageMiddleware`: counts the requests of a WSGI application. Bodies, and the server's own file wrapper, stay intact."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIApplication

from usage_middleware.capture.call import Call, Captured, capture_of
from usage_middleware.capture.endpoint import deployment_prefix, environ_template, traceback_template, wsgi_text
from usage_middleware.capture.identity import NOBODY, Caller, Environ, EnvironRequest, Member, is_async, shown_in_environ
from usage_middleware.errors import ConfigurationError
from usage_middleware.marks import CALL
from usage_middleware.store.schema import UNKNOWN


class WSGIUsageMiddleware:
    """Counts every request of a WSGI application, once, when the server closes its response.

    Raises:
        ConfigurationError: if `identify` is async, or `usage` is no `Usage`.
    """

    def __init__(self, app: WSGIApplication, usage: Captured) -> None:
        self.app = app
        self.capture = capture_of(usage)
        if self.capture.asks_who is not None and is_async(self.capture.asks_who):
            raise ConfigurationError("identify: an async function can't be awaited under WSGI; give a plain one")
        self.deployment = deployment_prefix()
        self.capture.wraps(app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request with the wrapped application."""
        call = self._begin(environ, start_response)
        if call is None:
            return self.app(environ, start_response)
        try:
            body = self.app(environ, cast(StartResponse, call.start_response))
        except BaseException as error:
            call.failed(error)
            call.finish()
            raise
        return call.respond(body)

    def _begin(self, environ: Environ, start_response: StartResponse) -> _EnvironCall | None:
        """The call to record; None for what is not counted, or already is by a middleware further out."""
        try:
            self.capture.settle()
            if self._passes(environ):
                return None
            call = environ[CALL] = _EnvironCall(self, environ, start_response)
            return call
        except Exception:
            self.capture.lost("request unreadable")
            return None

    def _passes(self, environ: Environ) -> bool:
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

    __slots__ = ("_began", "_headers", "_shell", "_start", "_template", "_write", "stopped")

    def __init__(self, shell: WSGIUsageMiddleware, environ: Environ, start_response: StartResponse) -> None:
        super().__init__(shell.capture, environ, environ["REQUEST_METHOD"], wsgi_text(environ.get("PATH_INFO", "")))
        self._shell = shell
        self._start = start_response
        self._write: Callable[[bytes], object] | None = None
        self._headers: list[tuple[str, str]] = []
        self._template: str | None = None
        #: True once the server got a piece of body, and sent the headers: until then it answers an exception with 500.
        self._began = False
        #: When the last byte was sent, on the capture's timer.
        self.stopped: float | None = None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        """The server's `start_response`, noticing the status and, while the framework still knows it, the route."""
        write = self._start(status, headers) if exc_info is None else self._start(status, headers, exc_info)
        self._write = write
        self._headers = headers
        try:
            self.status = int(status[:3])
            self._template = environ_template(cast(Environ, self.notes), self._shell.deployment)
        except Exception:
            self.capture.lost("response unreadable")
        return self.write

    def write(self, data: bytes) -> object:
        """The server's `write`, counting."""
        assert self._write is not None
        written = self._write(data)
        self.saw(data)
        return written

    def saw(self, chunk: bytes) -> None:
        """Count a piece of body."""
        self._began = True
        try:
            self.sent += len(chunk)
        except Exception:
            self.capture.lost("body unreadable")

    def failed(self, error: BaseException) -> None:
        """The application raised: 500, unless bytes of its response are out already."""
        try:
            if not self._began:
                self.status = 500
            if self._template is None:
                seen = cast(Environ, self.notes), self._shell.deployment
                self._template = environ_template(*seen) or traceback_template(error, *seen)
        except Exception:
            self.capture.lost("response unreadable")

    def respond(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """What the server gets in place of the application's response; a file of the server's own kind is its own."""
        try:
            wrapper = self.notes.get("wsgi.file_wrapper")
            if isinstance(wrapper, type) and isinstance(body, wrapper):
                self._follow(body)
                return body
            return _SizedBody(self, body) if hasattr(body, "__len__") else _Body(self, body)
        except Exception:
            self.capture.lost("response unreadable")
            self.finish()
            return body

    def _follow(self, file: Any) -> None:
        """Finish when the server closes a file that it recognises by its type, and may send without iterating over it."""
        self.sent += _size(file, self._headers)
        self._began = True
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
        """Record the call, once."""
        if self.done:
            return
        self.done = True
        latency = (self.capture.timer() if self.stopped is None else self.stopped) - self.started
        self.status = self.status or 500
        try:
            if not self.capture.is_excluded(self, self._request):
                self.capture.record(self, self._who(), self._placed(), latency)
        except Exception:
            self.capture.lost("call not recorded")
        # The environ would keep the call alive, and the call the environ.
        self.notes.pop(CALL, None)

    def _placed(self) -> str:
        try:
            framework = "werkzeug.request" in self.notes or "bottle.route" in self.notes
            return self._template or self.capture.unplaced(self.status, framework, self._shell.app)
        except Exception:
            self.capture.lost("template unreadable")
            return UNKNOWN

    def _who(self) -> Member:
        identify = self.capture.asks_who
        if self.caller is not None:
            return self.caller.member
        if identify is None:
            return shown_in_environ(cast(Environ, self.notes))
        try:
            caller = identify(self._request())
            if inspect.iscoroutine(caller):
                caller.close()
            return NOBODY if caller is None else cast(Caller, caller).member
        except Exception:
            self.capture.lost("identify raised")
            return NOBODY

    def _request(self) -> EnvironRequest:
        return EnvironRequest(cast(Environ, self.notes), self.method, self.path)


class _Body:
    """The response of an application, passed on piece by piece; the call is finished when the server closes it."""

    __slots__ = ("_body", "_call", "_closed", "_pieces")

    def __init__(self, call: _EnvironCall, body: Iterable[bytes]) -> None:
        self._call = call
        self._body = body
        self._pieces: Iterator[bytes] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        # Begins in `__next__`: whoever asks an iterator for its iterator twice must not get the body twice.
        return self

    def __next__(self) -> bytes:
        try:
            if self._pieces is None:
                self._pieces = iter(self._body)
            piece = next(self._pieces)
        except StopIteration:
            raise
        except BaseException as error:
            self._call.failed(error)
            raise
        self._call.saw(piece)
        return piece

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

    def __del__(self) -> None:
        # A middleware further out that forgets `close()`, as some do, must not make the request vanish.
        if not self._call.done:
            self._call.stopped = self._call.capture.timer()
            self._call.capture.abandon(self._call.finish)


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
