"""The entry for `MIDDLEWARE`, sync and async capable: Django never has to change threads for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from usage_middleware.capture.capture import capture_of
from usage_middleware.capture.client_left import CLIENT_LEFT
from usage_middleware.integrations.django.call import DjangoCall, begin
from usage_middleware.integrations.django.settings import get_usage


class UsageMiddleware:
    """Counts every request that reaches it, once. Put it first in `MIDDLEWARE`, so that it sees what the others refuse.

    Around the whole application, `usage_middleware.UsageMiddleware` (ASGI) or `WSGIUsageMiddleware` count as well; together,
    each request is counted once.
    """

    lists_django = True
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self.capture = capture_of(get_usage())
        #: It stands for the project where routes are listed.
        self.app = self
        self.capture.wraps(self)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Answer a request with the rest of the project."""
        call = self._begin(request)
        if self._is_async:
            return self.get_response(request) if call is None else self._awaited(request, call)
        if call is None:
            return self.get_response(request)
        try:
            response = self.get_response(request)
        except BaseException:
            call.failed(500)
            raise
        call.identified(call.asked())
        return self._respond(call, response)

    async def _awaited(self, request: Any, call: DjangoCall) -> Any:
        try:
            response = await self.get_response(request)
        except BaseException as error:
            call.failed(CLIENT_LEFT if type(error).__name__ == "CancelledError" else 500)
            raise
        found = call.asked()
        if isawaitable(found):
            found = await self._found(found)
        call.identified(found)
        return self._respond(call, response)

    async def _found(self, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except Exception:
            self.capture.count_error("identify raised")
            return None

    def _begin(self, request: Any) -> DjangoCall | None:
        try:
            self.capture.finish_abandoned()
            return begin(self.capture, request)
        except Exception:
            self.capture.count_error("request unreadable")
            return None

    def _respond(self, call: DjangoCall, response: Any) -> Any:
        try:
            return call.respond(response)
        except Exception:
            self.capture.count_error("response unreadable")
            return response
