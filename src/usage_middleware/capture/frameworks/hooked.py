"""Frameworks that leave nothing of a route in the scope or environ: a hook in their applications leaves the template."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import Framework
from usage_middleware.capture.frameworks.wsgi_mounts import WSGIMounts
from usage_middleware.request_keys import CALL, wsgi_text
from usage_middleware.seen_request import Notes

#: Under this key a hook leaves what it knows of the route.
LEFT = "usage.left"


class Left(NamedTuple):
    """What a hook has left in a scope or environ.

    Attributes:
        template: that of the route, as its application declares it; None if no route matched.
        root: where the application found itself mounted: its `root_path` or `SCRIPT_NAME`.
        only_if_found: True for a template that matches anything: a response with 404 then came from no route.
    """

    template: str | None
    root: str = ""
    only_if_found: bool = False


def leave(notes: MutableMapping[str, Any], template: str | None, *, only_if_found: bool = False) -> None:
    """Leave the template of a route for the middleware, also where one in between works on a copy of the scope or environ."""
    call = notes.get(CALL)
    if isinstance(call, Call):
        root = wsgi_text(notes["SCRIPT_NAME"]) if "SCRIPT_NAME" in notes else notes.get("root_path", "")
        call.notes[LEFT] = Left(template, root, only_if_found)


def template_left(call: Call) -> str | None:
    """The template that a hook has left, without that of a mount; None if no route matched."""
    left: Left = call.notes[LEFT]
    return None if left.only_if_found and call.status == 404 else left.template


def root_left(call: Call) -> str:
    """The path of the mounts between an ASGI middleware and the application that a hook knows."""
    root: str = call.notes[LEFT].root
    return root.removeprefix(getattr(call, "root", "")).rstrip("/")


class Hooked(Framework):
    """The adapter of a framework whose applications get a hook."""

    routed_key = LEFT

    def __init__(self) -> None:
        self._mounts = WSGIMounts()

    def hook(self, app: Any) -> bool:
        """Give an application its hook, unless it has it. True for an application of this framework."""
        return False

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`."""
        template = template_left(call)
        return None if template is None else self._mounted_at(call.notes, call) + template

    def has_routes(self, app: Any) -> bool:
        """False: what a hook leaves is seen through every middleware."""
        return False

    def _mounted_at(self, notes: Notes, call: Call) -> str:
        return self._mounts.path(notes, notes[LEFT].root) if "PATH_INFO" in notes else root_left(call)
