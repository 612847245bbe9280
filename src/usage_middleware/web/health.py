"""`/health`: the recorder's own state, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usage_middleware.errors import UsageUnavailable
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.outages import guard
from usage_middleware.web.auth import Forbidden
from usage_middleware.web.message import Response, json_response

if TYPE_CHECKING:
    from usage_middleware.usage import Usage


def response(usage: Usage, viewer: Viewer) -> Response:
    """Whether Redis answers, and what the recorder of this process says of itself.

    Raises:
        Forbidden: the viewer is no operator.
    """
    if not viewer.is_operator:
        raise Forbidden("Only operators may look at the recorder's state.")
    is_up = _answers(usage)
    redis = {"kind": usage.engine.kind, "reachable": is_up}
    return json_response({"status": "ok" if is_up else "degraded", "redis": redis, "recorder": _stats(usage)})


def _answers(usage: Usage) -> bool:
    try:
        with guard():
            return bool(usage.engine.read_client.ping())
    except UsageUnavailable:
        return False


def _stats(usage: Usage) -> Any:
    stats = getattr(usage.recorder, "stats", None)
    return stats() if callable(stats) else None
