"""The keys that we, and applications, set in an ASGI scope or a WSGI environ, and how an environ's text is read."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

#: The `Call` being recorded. Its presence tells a second middleware to pass through.
CALL = "usage.call"
#: A route template set by the application, or by an integration for a framework that keeps none.
ROUTE = "usage.route"
#: True if this request is not counted. The usage app sets it for its own requests.
EXCLUDE = "usage.exclude"
#: The attribute of the usage app, and of what it is made of, by which the middleware knows it.
USAGE_APP = "is_usage_app"


def leave_out(notes: MutableMapping[str, Any]) -> None:
    """Mark a request as not counted, also where a middleware in between works on a copy of its scope or environ."""
    notes[EXCLUDE] = True
    outer = getattr(notes.get(CALL), "notes", None)
    if outer is not None:
        outer[EXCLUDE] = True


def wsgi_text(value: str) -> str:
    """A string of an environ, which carries bytes as Latin-1, read as UTF-8."""
    return value if value.isascii() else value.encode("latin-1", "replace").decode("utf-8", "replace")
