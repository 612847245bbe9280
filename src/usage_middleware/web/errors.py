"""Errors on the wire: one envelope, a status for every code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from usage_middleware.errors import QueryError, UsageUnavailable
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.driver_errors import guard
from usage_middleware.web.http import Response, json_response, reason

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5

#: The codes that every view may answer, beside its own.
SHARED_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "unauthenticated": 401,
        "forbidden": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "invalid_parameter": 422,
        "unknown_parameter": 422,
        "answer_too_large": 422,
        "rate_limited": 429,
        "internal_error": 500,
        "usage_unavailable": 503,
    }
)
#: Every code and its status.
STATUS: Mapping[str, int] = MappingProxyType(
    {**{code: 400 for view in VIEWS for code in view.codes}, "window_too_wide": 422, **SHARED_STATUS}
)

_HEADERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "unauthenticated": {"WWW-Authenticate": 'Bearer realm="usage"'},
        "rate_limited": {"Retry-After": "60"},
        "usage_unavailable": {"Retry-After": str(RETRY_SECONDS)},
    }
)
_UNAVAILABLE = QueryError("usage_unavailable", f"Usage can't be read just now. Try again in {RETRY_SECONDS} seconds.")


class Refused(QueryError):
    """A request that is refused, with headers of its own, such as `Retry-After`."""

    def __init__(self, code: str, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(code, message)
        self.headers = headers


def error_response(error: Exception, request_id: str, fields: Mapping[str, object]) -> Response:
    """The envelope of any exception; `fields` are what the page adds to it. An unexpected error is logged: 500."""
    error = _understood(error)
    if isinstance(error, UsageUnavailable):
        logger.warning("request %s of the usage API: %s", request_id, error)
        error = _UNAVAILABLE
    if not isinstance(error, QueryError) or error.code not in STATUS:
        logger.error("request %s of the usage API failed", request_id, exc_info=error)
        error = QueryError("internal_error", f"Something went wrong on our side. If you ask about it, name {request_id}.")
    status = STATUS[error.code]
    envelope: dict[str, object] = {"error": reason(status), "code": error.code, "message": error.message, "param": error.param}
    if error.nearest is not None:
        envelope["nearest"] = [{"start": start, "end": end} for start, end in error.nearest]
    headers = error.headers if isinstance(error, Refused) else {}
    named = {name.lower() for name in headers}
    usual = {name: value for name, value in _HEADERS.get(error.code, {}).items() if name.lower() not in named}
    return json_response({**fields, **envelope}, status, {**usual, **headers})


def _understood(error: Exception) -> Exception:
    """The error, or the `UsageUnavailable` that an error of the driver stands for."""
    try:
        with guard():
            raise error
    except Exception as found:
        return found
