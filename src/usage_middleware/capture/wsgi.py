"""`WSGIUsageMiddleware`: counts the requests of a WSGI application. Bodies, and the server's own file wrapper, stay intact."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIApplication

from usage_middleware.capture.call import Call
from usage_middleware.capture.capture import Capture, HasCapture, capture_of
from usage_middleware.capture.frameworks import WSGI, TemplateFinder
from usage_middleware.capture.identity import NOBODY, Caller, is_async, require_caller
from usage_middleware.capture.wsgi_body import counted
from usage_middleware.errors import ConfigurationError
from usage_middleware.events import RawCall
from usage_middleware.request_keys import CALL, EXCLUDE, ROUTE, wsgi_text
from usage_middleware.seen_request import Environ, EnvironRequest, environ_key


class WSGIUsageMiddleware:
    """Counts every request of a WSGI application, once, when the server closes its response.

    Raises:
        ConfigurationError: if `app` is an ASGI application, `identify` is async, or `usage` is no `Usage`.
    """

    def __init__(self, app: WSGIApplication, usage: HasCapture) -> None:
        if is_async(app):
            raise ConfigurationError("WSGIUsageMiddleware is for WSGI; around an ASGI application use UsageMiddleware")
        self.app = app
        self.capture = capture_of(usage)
        if self.capture.identify is not None and is_async(self.capture.identify):
            raise ConfigurationError("identify: an async function can't be awaited under WSGI; give a plain one")
        self._excludes_paths = self.capture.exclusion.has_paths
        self.templates = TemplateFinder(WSGI, app, self.capture.count_error)
        self.capture.wraps(self)
        self.capture.under_way = partial(under_way, self.capture)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request with the wrapped application."""
        try:
            if self.capture.abandoned:
                self.capture.finish_abandoned()
            # As few functions as possible are called here: see asgi.py.
            if (CALL in environ or "HTTP_ORIGIN" in environ or self._excludes_paths) and self._passes(environ):
                call = None
            else:
                call = environ[CALL] = EnvironCall(self, environ, start_response)
        except Exception:
            self.capture.count_error("request unreadable")
            call = None
        if call is None:
            return self.app(environ, start_response)
        try:
            body = self.app(environ, call.start_response)
        except BaseException as error:
            call.failed(error)
            call.finish()
            raise
        try:
            return counted(call, body)
        except Exception:
            self.capture.count_error("response unreadable")
            call.finish()
            return body

    def _passes(self, environ: Environ) -> bool:
        """True for what is not counted, or is already by a middleware further out."""
        outer = environ.get(CALL)
        if isinstance(outer, Call) and not outer.done:
            return True
        exclusion = self.capture.exclusion
        if exclusion.has_paths and exclusion.covers(wsgi_text(environ.get("PATH_INFO", ""))):
            return True
        preflight = "HTTP_ORIGIN" in environ and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        if not preflight or environ["REQUEST_METHOD"] != "OPTIONS":
            return False
        return not any(environ_key(name) in environ for name in self.capture.credentials.showing)


def under_way(capture: Capture) -> list[EnvironCall]:
    """The calls that are being answered now. It takes some milliseconds, so that requests need not keep a list."""
    found = [one for one in gc.get_objects() if type(one) is EnvironCall]
    # One that has just been made has no attributes yet.
    return [one for one in found if getattr(one, "capture", None) is capture and not getattr(one, "done", True)]


class EnvironCall(Call):
    """A request being answered: stands between the application and the server's `start_response`.

    Attributes:
        headers: those of the response.
        began: True once the server got a piece of body, and has sent the headers. Until then it answers an exception
            with 500.
        stopped: when the last byte was sent, on the capture's timer.
    """

    __slots__ = ("_start", "_template", "_templates", "_write", "began", "headers", "stopped")

    def __init__(self, middleware: WSGIUsageMiddleware, environ: Environ, start_response: StartResponse) -> None:
        capture = self.capture = middleware.capture
        self.notes = environ
        self.method = environ["REQUEST_METHOD"]
        self.path = environ.get("PATH_INFO", "")
        self.status = 0
        self.sent = 0
        self.caller = None
        self.tags = None
        self.counts = None
        self.done = False
        self.headers: list[tuple[str, str]] = []
        self.began = False
        self.stopped: float | None = None
        self._templates = middleware.templates
        self._template: str | None = None
        self._start = start_response
        self._write: Callable[[bytes], object] | None = None
        self.started = capture.timer()

    @property
    def strict(self) -> bool:
        """As of `Call`. Flask's environ does not say which application runs."""
        return super().strict or self._templates.is_debug()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        """The server's `start_response`. Takes note of the status and, while the framework still knows it, the route."""
        write = self._start(status, headers) if exc_info is None else self._start(status, headers, exc_info)
        self._write = write
        self.headers = headers
        try:
            self.status = int(status[:3])
        except Exception:
            self.capture.count_error("response unreadable")
        templates, notes = self._templates, self.notes
        try:  # As in asgi.py: the first framework is asked without a call in between.
            self._template = (templates.first if templates.first_key in notes and ROUTE not in notes else templates.find)(self)
        except Exception:
            self._template = templates.unreadable()
        return write if write is None else self.write

    def write(self, data: bytes) -> object:
        """The server's `write`, counting."""
        assert self._write is not None
        written = self._write(data)
        self.count_bytes(data)
        return written

    def count_bytes(self, piece: bytes) -> None:
        """Count a piece of body."""
        self.began = True
        try:
            self.sent += len(piece)
        except Exception:
            self.capture.count_error("body unreadable")

    def failed(self, error: BaseException) -> None:
        """The application raised: 500, unless a part of its response has been sent."""
        if not self.began:
            self.status = 500
        if self._template is None:
            self._template = self._templates.find(self, error)

    def finish(self) -> None:
        """Hand the call to the recorder, once."""
        if self.done:
            return
        self.done = True
        capture, notes = self.capture, self.notes
        latency = (capture.timer() if self.stopped is None else self.stopped) - self.started
        self.status = self.status or 500
        try:
            if not (EXCLUDE in notes or capture.has_predicate) or not capture.is_excluded(notes, self._request):
                who = values = None
                if self.caller is not None:
                    who = self.caller.member
                elif capture.identify is not None:
                    who = self._identified(capture.identify).member
                elif capture.only_headers:
                    values = capture.credentials.headers_by(notes.get)
                else:
                    values = capture.credentials.in_environ(notes, self._request, capture.credentials_raised)
                template = self._template or self._templates.fallback(self)
                tags, counts = self.tags, self.counts
                capture.take(
                    RawCall(0.0, who, (), values, self.method, template, tags, self.status, latency, self.sent, counts)
                )
        except Exception:
            capture.count_error("call not recorded")
        # The environ would keep the call alive, and the call the environ.
        notes.pop(CALL, None)

    def _identified(self, identify: Callable[[Any], Any]) -> Caller:
        try:
            caller = identify(self._request())
            if inspect.iscoroutine(caller):
                caller.close()
            return NOBODY if caller is None else require_caller(caller)
        except Exception:
            self.capture.count_error("identify raised")
            return NOBODY

    def _request(self) -> EnvironRequest:
        return EnvironRequest(cast(Environ, self.notes), self.method, wsgi_text(self.path))
