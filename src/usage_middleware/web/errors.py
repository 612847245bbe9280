"""Errors on the wire: one envelope, a status for every code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from usage_middleware.errors import QueryError, UsageUnavailable
from usage_middleware.web.http import Response, json_response, reason

logger = logging.getLogger(__name__)

ALLOW = "GET, HEAD"
RETRY_SECONDS = 5

#: Every code and its status.
STATUS: Mapping[str, int] = MappingProxyType(
    {
        "missing_org": 400,
        "invalid_period": 400,
        "invalid_range": 400,
        "invalid_timeframe": 400,
        "invalid_granularity": 400,
        "invalid_group": 400,
        "invalid_timezone": 400,
        "invalid_window": 400,
        "unsupported_timezone": 400,
        "not_retained": 400,
        "unauthenticated": 401,
        "forbidden": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "invalid_parameter": 422,
        "unknown_parameter": 422,
        "window_too_wide": 422,
        "rate_limited": 429,
        "internal_error": 500,
        "usage_unavailable": 503,
    }
)

_HEADERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "unauthenticated": {"WWW-Authenticate": 'Bearer realm="usage"'},
        "method_not_allowed": {"Allow": ALLOW},
        "rate_limited": {"Retry-After": "60"},
        "usage_unavailable": {"Retry-After": str(RETRY_SECONDS)},
    }
)
_UNAVAILABLE = QueryError("usage_unavailable", f"Usage can't be read just now. Try again in {RETRY_SECONDS} seconds.")


def error_response(error: Exception, request_id: str, fields: Mapping[str, object]) -> Response:
    """The envelope of any exception; `fields` are what the view adds to it. What we did not expect is logged and 500."""
    if isinstance(error, UsageUnavailable):
        logger.warning("request %s of the usage API: %s", request_id, error)
        error = _UNAVAILABLE
    if not isinstance(error, QueryError) or error.code not in STATUS:
        logger.error("request %s of the usage API failed", request_id, exc_info=error)
        error = QueryError("internal_error", f"Something went wrong on our side. If you ask about it, name {request_id}.")
    return _envelope(error, fields)


def _envelope(error: QueryError, fields: Mapping[str, object]) -> Response:
    status = STATUS[error.code]
    said = {"error": reason(status), "code": error.code, "message": error.message, "param": error.param}
    return json_response({**fields, **said}, status).with_headers(_HEADERS.get(error.code, {}))
