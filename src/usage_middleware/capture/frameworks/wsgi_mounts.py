"""Where a WSGI application is mounted: its `SCRIPT_NAME`, without the prefix of the deployment."""

from __future__ import annotations

import os

from usage_middleware.request_keys import wsgi_text
from usage_middleware.seen_request import Notes


class WSGIMounts:
    """Tells mounts (DispatcherMiddleware) from the prefix of the deployment.

    That is `SCRIPT_NAME` of the process, and what `ProxyFix` took from `X-Forwarded-Prefix`. Any other looks like a mount.
    """

    def __init__(self) -> None:
        #: gunicorn takes it from its own environment.
        self._deployment = os.environ.get("SCRIPT_NAME", "").rstrip("/")

    def path(self, notes: Notes, script: str | None = None) -> str:
        """The mount's path, by the `SCRIPT_NAME` that is given as text, or else as it is now; empty if there is none."""
        script = wsgi_text(notes.get("SCRIPT_NAME", "")) if script is None else script
        if not script:
            return ""
        forwarded = notes.get("HTTP_X_FORWARDED_PREFIX", "") if "werkzeug.proxy_fix.orig" in notes else ""
        for prefix in (self._deployment, *forwarded.split(",")):
            script = _without(script, prefix.strip().rstrip("/"))
        return script.rstrip("/")


def _without(path: str, prefix: str) -> str:
    return path[len(prefix) :] if prefix and (path == prefix or path.startswith(prefix + "/")) else path
