"""`UsageMiddleware`: counts the requests of an ASGI application. Pure ASGI; bodies and messages pass through untouched."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from usage_middleware.capture.call import Call, Captured, capture_of
from usage_middleware.capture.endpoint import ScopeTemplates, relative_path
from usage_middleware.capture.identity import NOBODY, Caller, Member, Scope, ScopeRequest, is_preflight, shown_in_scope
from usage_middleware.marks import CALL
from usage_middleware.store.schema import UNKNOWN

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What a client that left before the response began is counted as.
CLIENT_LEFT = 499
_LEAVING = frozenset({"CancelledError", "Cancelled", "ClientDisconnect"})


class UsageMiddleware:
    """Counts every HTTP request of an ASGI application, once, when the last byte of its response has been sent.

    Websockets pass through untouched. When the application has shut down, what is not yet sent is flushed.
    """

    def __init__(self, app: ASGIApp, usage: Captured) -> None:
        self.app = app
        self.capture = capture_of(usage)
        self._templates = ScopeTemplates()
        self._excludes_paths = self.capture.exclusion.has_paths
        self.capture.wraps(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the wrapped application."""
        call = self._begin(scope, receive, send)
        if call is None:
            await self.app(scope, receive, self._flushing(send) if scope["type"] == "lifespan" else send)
            return
        try:
            await self.app(scope, call.receive, call.send)
        except BaseException as error:
            await call.failed(error)
            raise
        else:
            if not call.done:
                await call.ended()
        finally:
            # The scope would keep the call alive, and the call the scope.
            scope.pop(CALL, None)

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> _ScopeCall | None:
        """The call to record; None for what is not counted, or already is by a middleware further out."""
        if scope["type"] != "http":
            return None
        try:
            if CALL in scope and not scope[CALL].done:
                return None
            if self._excludes_paths and self.capture.exclusion.covers(relative_path(scope["path"], scope.get("root_path", ""))):
                return None
            if scope["method"] == "OPTIONS" and is_preflight(scope):
                return None
            call = scope[CALL] = _ScopeCall(self, scope, receive, send)
            return call
        except Exception:
            self.capture.lost("request unreadable")
            return None

    def _flushing(self, send: Send) -> Send:
        async def flushing(message: Message) -> None:
            if message.get("type") in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._flush()
            await send(message)

        return flushing

    async def _flush(self) -> None:
        flush = self.capture.at_shutdown
        try:
            try:
                asyncio.get_running_loop()
            except RuntimeError:  # another event loop than asyncio's, at its end: it may wait
                flush()
            else:
                await asyncio.to_thread(flush)
        except Exception:
            self.capture.lost("flush at shutdown failed")

    def template(self, call: _ScopeCall) -> str:
        """The template under which a call is counted, or the reserved word for none."""
        try:
            template = self._templates.template(call.notes, call.path, call.status)
            if template is None:
                template = self.capture.unplaced(call.status, "router" in call.notes, self.app)
        except Exception:
            self.capture.lost("template unreadable")
            template = UNKNOWN
        return template


class _ScopeCall(Call):
    """A request on its way through: stands between the application and the server's `receive` and `send`."""

    __slots__ = ("_headers", "_left", "_receive", "_root", "_send", "_shell")

    def __init__(self, shell: UsageMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(shell.capture, scope, scope["method"], scope["path"])
        self._shell = shell
        self._receive = receive
        self._send = send
        self._root = scope.get("root_path", "")
        self._left = False
        self._headers: Any = ()

    async def receive(self) -> Message:
        """The server's next message, noticing a client that leaves before the response began."""
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect" and not self.status:
                self._left = True
        except Exception:
            self.capture.lost("message unreadable")
        return message

    async def send(self, message: Message) -> None:
        """Hand a message to the server, and finish the call after the last one with a body."""
        # Read before it is sent: a middleware further out may change it.
        last = not self.done and self._saw(message)
        await self._send(message)
        if last:
            if self.capture.asks_who is None:
                self._finish()
            else:
                await self._ask()

    def _saw(self, message: Message) -> bool:
        """Note what a message says; True for the last one with a body."""
        try:
            kind = message["type"]
            if kind == "http.response.body":
                body = message.get("body")
                if body:
                    self.sent += len(body) if type(body) is bytes else memoryview(body).nbytes
                return not message.get("more_body")
            if kind == "http.response.start":
                self.status = int(message["status"])
                self._headers = message.get("headers", ())
                return False
            return self._saw_file(kind, message)
        except Exception:
            self.capture.lost("message unreadable")
            return False

    def _saw_file(self, kind: str, message: Message) -> bool:
        """As `_saw`, for files that the server sends by itself."""
        if kind == "http.response.pathsend":
            self.sent += self._content_length()
            return True
        if kind == "http.response.zerocopysend":
            count = message.get("count")
            self.sent += self._content_length() if count is None else count
            return not message.get("more_body")
        return False

    def _content_length(self) -> int:
        for name, value in self._headers:
            if name.lower() == b"content-length":
                return int(value)
        return 0

    async def failed(self, error: BaseException) -> None:
        """The application raised: 500, or 499 if it was because the client left; what was sent already stands."""
        if not self.status:
            self.status = CLIENT_LEFT if _is_leaving(error) else 500
        try:
            await self._ask()
        except asyncio.CancelledError:
            # Cancelled once more while `identify` was asked: then the application's own cancellation goes on.
            if not isinstance(error, asyncio.CancelledError):
                raise

    async def ended(self) -> None:
        """The application returned without a last body: to a client that left, or by mistake."""
        if not self.status:
            self.status = 500
        await self._ask()

    def _finish(self) -> None:
        """Record the call, which shows by itself who called."""
        self.done = True
        latency = self.capture.timer() - self.started
        try:
            if not self.capture.is_excluded(self, self._request):
                self._record(shown_in_scope(self.notes) if self.caller is None else self.caller.member, latency)
        except Exception:
            self.capture.lost("call unreadable")

    async def _ask(self) -> None:
        """Record the call, after `identify` has said who called."""
        if self.done:
            return
        if self.capture.asks_who is None or self.caller is not None:
            self._finish()
            return
        self.done = True
        latency = self.capture.timer() - self.started
        if not self.capture.is_excluded(self, self._request):
            member = NOBODY
            try:
                member = await self._identified(self.capture.asks_who)
            except Exception:
                self.capture.lost("identify raised")
            finally:
                self._record(member, latency)

    async def _identified(self, identify: Callable[[Any], Any]) -> Member:
        caller = identify(self._request())
        if caller is not None and not isinstance(caller, Caller) and inspect.isawaitable(caller):
            caller = await caller
        return NOBODY if caller is None else caller.member

    def _record(self, member: Member, latency: float) -> None:
        try:
            if self._left:
                self.status = CLIENT_LEFT
            self.capture.record(self, member, self._shell.template(self), latency)
        except Exception:
            self.capture.lost("call not recorded")

    def _request(self) -> ScopeRequest:
        return ScopeRequest(self.notes, self.method, relative_path(self.path, self._root))


def _is_leaving(error: BaseException) -> bool:
    """True for what an application raises when its client has left, or its task was cancelled."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_leaving(one) for one in error.exceptions)
    return any(kind.__name__ in _LEAVING for kind in type(error).__mro__)
