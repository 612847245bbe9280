"""A request that Django answers, as the middleware of `MIDDLEWARE` records it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, cast

from django.conf import settings

from usage_middleware.capture.call import Call
from usage_middleware.capture.capture import Capture
from usage_middleware.capture.frameworks.django import django_template
from usage_middleware.capture.identity import NOBODY, require_caller
from usage_middleware.capture.templates import template_of
from usage_middleware.events import RawCall
from usage_middleware.request_keys import CALL, ROUTE
from usage_middleware.seen_request import EnvironRequest, ScopeRequest, SeenRequest
from usage_middleware.store.members import UNMATCHED


class DjangoCall(Call):
    """A request being answered. Its notes are the scope or the environ of Django's request."""

    __slots__ = ("_request", "_stopped")

    def __init__(self, capture: Capture, request: Any, notes: Any) -> None:
        self.capture = capture
        self.notes = notes
        self.method = request.method
        self.path = request.path_info
        self.status = 0
        self.sent = 0
        self.caller = self.tags = self.counts = None
        self.done = False
        self._request = request
        self._stopped: float | None = None
        self.started = capture.timer()

    @property
    def strict(self) -> bool:
        """See `Call.strict`."""
        return self.capture.strict or bool(settings.DEBUG)

    def asked(self) -> Any:
        """What `identify` says of the request: a caller, None, or an awaitable of either."""
        identify = self.capture.identify
        if identify is None or self.caller is not None:
            return None
        try:
            return identify(self._seen())
        except Exception:
            self.capture.count_error("identify raised")
            return NOBODY

    def identified(self, found: Any) -> None:
        """Take what `identify` said."""
        if self.capture.identify is None or self.caller is not None:
            return
        try:
            if inspect.iscoroutine(found):
                found.close()
            self.caller = NOBODY if found is None else require_caller(found)
        except Exception:
            self.capture.count_error("identify raised")
            self.caller = NOBODY

    def respond(self, response: Any) -> Any:
        """Take note of the response. What it streams is counted as it is sent, all else now."""
        self.status = response.status_code
        if not response.streaming:
            self.sent = len(response.content)
            self.finish()
            return response
        response._resource_closers.append(self.finish)
        if getattr(response, "file_to_stream", None) is not None:  # the server may send the file by itself
            self.sent = int(response.get("Content-Length") or 0)
        elif getattr(response, "is_async", False):
            response.streaming_content = self._acounted(response.streaming_content)
        else:
            response.streaming_content = self._counted(response.streaming_content)
        return response

    def failed(self, status: int) -> None:
        """The application raised what is no response."""
        self.status = status
        self.finish()

    def finish(self) -> None:
        """Hand the call to the recorder, once."""
        if self.done:
            return
        self.done = True
        capture, notes = self.capture, self.notes
        latency = (capture.timer() if self._stopped is None else self._stopped) - self.started
        try:
            if not capture.is_excluded(notes, self._seen):
                capture.take(self._raw(latency))
        except Exception:
            capture.count_error("call not recorded")
        notes.pop(CALL, None)

    def _raw(self, latency: float) -> RawCall:
        who, values = None, None
        if self.caller is None:
            # Django has a `META` in both protocols.
            values = self.capture.credentials.in_environ(self._request.META, self._seen, self.capture.credentials_raised)
        else:
            who = self.caller.member
        template, tags, counts = self._template(), self.tags, self.counts
        return RawCall(0.0, who, (), values, self.method, template, tags, self.status, latency, self.sent, counts)

    def _template(self) -> str:
        given = self.notes.get(ROUTE)
        if given is not None:
            return template_of(given)
        match = getattr(self._request, "resolver_match", None)
        return UNMATCHED if match is None else django_template(match.route)

    def _seen(self) -> SeenRequest:
        if "PATH_INFO" in self.notes:
            return EnvironRequest(cast(dict[str, Any], self.notes), self.method, self.path)
        return ScopeRequest(self.notes, self.method, self.path)

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.sent += len(piece)
            yield piece
        self._stopped = self.capture.timer()

    async def _acounted(self, pieces: Any) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.sent += len(piece)
            yield piece
        self._stopped = self.capture.timer()


def begin(capture: Capture, request: Any) -> DjangoCall | None:
    """The call to record; None for what is not counted, or is already by a middleware around Django."""
    notes = getattr(request, "scope", None)
    if notes is None:
        notes = request.META
    outer = notes.get(CALL)
    if isinstance(outer, Call) and not outer.done:
        return None
    exclusion = capture.exclusion
    if exclusion.has_paths and exclusion.covers(request.path_info):
        return None
    headers = request.headers
    preflight = request.method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers
    if preflight and not any(name in headers for name in capture.credentials.showing):
        return None
    call = notes[CALL] = DjangoCall(capture, request, notes)
    return call
