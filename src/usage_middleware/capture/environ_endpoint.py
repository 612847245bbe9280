"""Which route answered a request that came by WSGI: read where each framework leaves it, while it is still there."""

from __future__ import annotations

import os

from usage_middleware.capture.identity import Environ
from usage_middleware.capture.templates import bottle_template, template_of
from usage_middleware.request_keys import ROUTE


def environ_template(environ: Environ, deployment: str) -> str | None:
    """The template of a request out of its WSGI environ, to be read when the response starts: Flask empties it later."""
    given = environ.get(ROUTE)
    if given is not None:
        return template_of(given)
    request = environ.get("werkzeug.request")
    if request is not None:
        rule = getattr(request, "url_rule", None)
        return None if rule is None else script_prefix(environ, deployment) + template_of(rule.rule)
    route = environ.get("bottle.route")
    return None if route is None else bottle_template(route.rule)


def traceback_template(error: BaseException, environ: Environ, deployment: str) -> str | None:
    """The template of a request whose exception Flask let through (PROPAGATE_EXCEPTIONS).

    No response has started, and Flask has already emptied the environ; the frame of its `wsgi_app` still holds the request.
    """
    step = error.__traceback__
    while step is not None:
        request = getattr(step.tb_frame.f_locals.get("ctx"), "request", None)
        rule = getattr(request, "url_rule", None)
        if rule is not None and getattr(request, "environ", None) is environ:
            return script_prefix(environ, deployment) + template_of(rule.rule)
        step = step.tb_next
    return None


def script_prefix(environ: Environ, deployment: str) -> str:
    """Where the answering application is mounted (DispatcherMiddleware): `SCRIPT_NAME` as it is now, less the deployment's.

    The deployment's prefix is the process's own `SCRIPT_NAME` (gunicorn) and what `ProxyFix` took from
    `X-Forwarded-Prefix`; no other can be told from a mount.
    """
    script = wsgi_text(environ.get("SCRIPT_NAME", ""))
    if not script:
        return ""
    forwarded = environ.get("HTTP_X_FORWARDED_PREFIX", "") if "werkzeug.proxy_fix.orig" in environ else ""
    for prefix in (deployment, *forwarded.split(",")):
        script = _less(script, prefix.strip().rstrip("/"))
    return script.rstrip("/")


def _less(path: str, prefix: str) -> str:
    return path[len(prefix) :] if prefix and (path == prefix or path.startswith(prefix + "/")) else path


def deployment_prefix() -> str:
    """The prefix that the process was deployed under, as gunicorn takes it from its own environment."""
    return os.environ.get("SCRIPT_NAME", "").rstrip("/")


def wsgi_text(value: str) -> str:
    """A string of an environ, which carries bytes as Latin-1, read as UTF-8."""
    return value if value.isascii() else value.encode("latin-1", "replace").decode("utf-8", "replace")
