"""`UsageMiddleware`: counts the requests of an ASGI application. Pure ASGI; bodies and messages pass through untouched."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from usage_middleware import signals
from usage_middleware.capture.call import Call
from usage_middleware.capture.capture import Capture, HasCapture, capture_of
from usage_middleware.capture.client_left import CLIENT_LEFT, status_of_failure
from usage_middleware.capture.cut_off import finish_answered
from usage_middleware.capture.files import sent_by_server
from usage_middleware.capture.frameworks import ASGI, TemplateFinder
from usage_middleware.capture.identity import NOBODY, Caller, require_caller
from usage_middleware.capture.templates import relative_path
from usage_middleware.errors import ConfigurationError
from usage_middleware.events import RawCall
from usage_middleware.headers import RawHeaders, RereadHeaders, headers_of, is_preflight
from usage_middleware.request_keys import CALL, EXCLUDE, ROUTE
from usage_middleware.seen_request import Scope, ScopeRequest

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[Any]]
ASGIApp: TypeAlias = Callable[..., Awaitable[Any]]  # every framework has types of its own for what it takes

_NO_HEADERS: Any = ()
_SHUT_DOWN = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")
#: How many messages that nobody has read may come before the one that says that the client left.
_MOST_UNREAD = 8


class UsageMiddleware:
    """Counts every HTTP request of an ASGI application, once, when the last byte of its response has been sent.

    Websockets pass through untouched. When the application has shut down, what is not yet sent is flushed.

    Raises:
        ConfigurationError: if `app` is a WSGI application, or `usage` is no `Usage`.
    """

    def __init__(self, app: ASGIApp, usage: HasCapture) -> None:
        if any(hasattr(one, "wsgi_app") and not hasattr(one, "asgi_app") for one in (app, getattr(app, "__self__", None))):
            raise ConfigurationError("UsageMiddleware is for ASGI; around a WSGI application use WSGIUsageMiddleware")
        self.app = app
        self.capture = capture_of(usage)
        self.templates = TemplateFinder(ASGI, app, self.capture.count_error)
        self._excludes_paths = self.capture.exclusion.has_paths
        self.capture.wraps(self)
        self.capture.answered = _finish_answered

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Answer a request with the wrapped application; returns what that returns."""
        try:
            # Few calls here: once an application had the processor's caches, a call takes two to three times as long.
            if scope["type"] == "http" and CALL not in scope and not self._excludes_paths:
                call: _ScopeCall | None = _ScopeCall(self, scope, receive, send)
            else:
                call = self._begin(scope, receive, send)
                if scope["type"] == "lifespan":
                    send = self._flushing(send)
            if call is not None:
                scope[CALL] = call
        except Exception:
            self.capture.count_error("request unreadable")
            call = None
        if call is None:
            return await self.app(scope, receive, send)
        try:
            returned = await self.app(scope, call.receive, call.send)
        except BaseException as error:
            await call.failed(error)
            raise
        else:
            if not call.done:
                await call.ended()
            return returned
        finally:
            # The scope would keep the call alive, and the call the scope.
            scope.pop(CALL, None)

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> _ScopeCall | None:
        """The call to record; None for what is not counted, or is already by a middleware further out."""
        if scope["type"] != "http" or (CALL in scope and not scope[CALL].done):
            return None
        if self._excludes_paths and self.capture.exclusion.covers(relative_path(scope["path"], scope.get("root_path", ""))):
            return None
        return _ScopeCall(self, scope, receive, send)

    def _flushing(self, send: Send) -> Send:
        async def flushing(message: Message) -> Any:
            if isinstance(message, Mapping) and message.get("type") in _SHUT_DOWN:
                await self._flush()
            return await send(message)

        return flushing

    async def _flush(self) -> None:
        flush = self.capture.at_shutdown
        try:
            try:
                asyncio.get_running_loop()
            except RuntimeError:  # another event loop than asyncio's: it is ending, and may be blocked
                flush()
            else:
                with signals.held(is_ending=True):
                    await asyncio.to_thread(flush)
        except Exception:
            self.capture.count_error("flush at shutdown failed")


class _ScopeCall(Call):
    """A request being answered: stands between the application and the server's `receive` and `send`."""

    __slots__ = ("_began", "_left", "_receive", "_send", "_templates", "root")

    def __init__(self, middleware: UsageMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        capture = self.capture = middleware.capture
        self.notes = scope
        self.method = scope["method"]
        self.path = scope["path"]
        self.status = 0
        self.sent = 0
        self.caller = None
        self.tags = None
        self.counts = None
        self.done = False
        self._templates = middleware.templates
        self._receive = receive
        self._send = send
        #: As it was before the application ran: mounts add to it.
        self.root = scope.get("root_path", "")
        self._left = False
        #: The message that began the response.
        self._began: Message | None = None
        if type(scope.get("headers")) is not list:
            RereadHeaders.replace_in(scope)
        self.started = capture.timer()

    async def receive(self) -> Message:
        """The server's next message. Takes note of a client that leaves before the response began."""
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect" and not self.status:
                self._left = True
        except Exception:
            self.capture.count_error("message unreadable")
        return message

    def send(self, message: Message) -> Awaitable[Any]:
        """Hand a message to the server, and finish the call after the last one with a body."""
        # Read before it is sent: a middleware further out may change it. Only the last message costs a coroutine.
        try:
            kind = message["type"]
            if kind == "http.response.body":
                body = message.get("body")
                if body:
                    self.sent += len(body) if type(body) is bytes else memoryview(body).nbytes
                last = not message.get("more_body")
            elif kind == "http.response.start":
                self.status = int(message["status"])
                self._began = message
                last = False
            else:
                sent, last = sent_by_server(kind, message, self._began)
                self.sent += sent
        except Exception:
            self.capture.count_error("message unreadable")
            last = False
        return self._send_last(message) if last and not self.done else self._send(message)

    async def _send_last(self, message: Message) -> Any:
        returned = await self._send(message)
        if self.capture.identify is None:
            self._finish()
        else:
            await self._ask()
        return returned

    async def failed(self, error: BaseException) -> None:
        """The application raised: 500, or 499 if it did because the client left. A status that was sent stays."""
        if not self.status:
            self.status = status_of_failure(error, self._has_left)
        try:
            await self._ask()
        except asyncio.CancelledError:
            if not isinstance(error, asyncio.CancelledError):  # Else the application's own cancellation goes on.
                raise

    def _has_left(self) -> bool:
        """Whether the client is known to have left: from a message that the application saw, or one that waits for it."""
        for _ in range(0 if self._left else _MOST_UNREAD):
            try:
                asked = self.receive()
                asked.send(None)
                asked.close()  # It would have to wait for a message.
                break
            except StopIteration:
                if self._left:
                    break
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # It must not take the place of what the application raised.
                self.capture.count_error("message unreadable")
                break
        return self._left

    async def ended(self) -> None:
        """The application returned without a last message: its client left, or it made a mistake."""
        self.status = self.status or 500
        await self._ask()

    def _finish(self, latency: float | None = None) -> None:
        """Hand the call to the recorder. With a `latency`, in seconds, it has been found not to be excluded."""
        capture, notes = self.capture, self.notes
        self.done = True
        try:
            if latency is None:
                latency = capture.timer() - self.started
                asks = EXCLUDE in notes or capture.has_predicate or self.method == "OPTIONS" or self.status == 307
                if asks and self._is_excluded():
                    return
            who = keys = None
            if self.caller is not None:
                who, headers = self.caller.member, _NO_HEADERS
            elif not capture.only_headers:
                headers = _NO_HEADERS
                keys = capture.credentials.in_scope(notes, self._headers(), self._request, capture.credentials_raised)
            elif type(headers := notes.get("headers")) is not list:
                headers = self._headers()
            if self._left:
                self.status = CLIENT_LEFT
            templates = self._templates
            try:  # Most requests are the first framework's: it is asked without a call in between.
                template = (templates.first if templates.first_key in notes and ROUTE not in notes else templates.find)(self)
            except Exception:
                template = templates.unreadable()
            template = template or templates.fallback(self)
            capture.take(
                RawCall(0.0, who, headers, keys, self.method, template, self.tags, self.status, latency, self.sent, self.counts)
            )
        except Exception:
            capture.count_error("call not recorded")

    async def _ask(self) -> None:
        """Hand the call to the recorder, after `identify` has said who called."""
        identify = self.capture.identify
        if self.done:
            return
        if identify is None or self.caller is not None:
            self._finish()
            return
        self.done = True
        latency = self.capture.timer() - self.started
        if self._is_excluded():
            return
        self.caller = NOBODY
        try:
            found = identify(self._request())
            if found is not None and not isinstance(found, Caller) and inspect.isawaitable(found):
                found = await found
            if found is not None:
                self.caller = require_caller(found)
        except Exception:
            self.capture.count_error("identify raised")
        finally:
            self._finish(latency)

    def _headers(self) -> RawHeaders:
        try:
            return headers_of(self.notes)
        except Exception:
            self.capture.count_error("headers unreadable")
            return ()

    def _is_excluded(self) -> bool:
        # Headers are not read before the application has run: it may be that they can be read once.
        is_ours = self.status == 307 and self._templates.is_usage_redirect(self)
        if is_ours or (self.method == "OPTIONS" and is_preflight(self._headers(), self.capture.credentials.showing)):
            return True
        return self.capture.is_excluded(self.notes, self._request)

    def _request(self) -> ScopeRequest:
        return ScopeRequest(self.notes, self.method, relative_path(self.path, self.root))


def _finish_answered(capture: Capture) -> None:
    finish_answered(capture, _ScopeCall._send_last, _ScopeCall._ask)


# `send` is not `async`, to save a coroutine for each message. Marked for adapters that look, such as asgiref's.
if sys.version_info >= (3, 12):
    inspect.markcoroutinefunction(_ScopeCall.send)
else:
    _ScopeCall.send.__dict__["_is_coroutine"] = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
