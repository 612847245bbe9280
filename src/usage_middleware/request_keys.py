"""The names under which we, and applications, leave notes in an ASGI scope or a WSGI environ."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

#: The `Call` being recorded. Its presence tells a second middleware to pass through.
CALL = "usage.call"
#: A route template left by the application, or by an adapter for a framework that keeps none.
ROUTE = "usage.route"
#: True where this request is not to be counted: the usage app marks its own requests with it.
EXCLUDE = "usage.exclude"


def leave_out(notes: MutableMapping[str, Any]) -> None:
    """Mark a request as one that is not counted; also where a middleware in between works on a copy of its notes."""
    notes[EXCLUDE] = True
    outer = getattr(notes.get(CALL), "notes", None)
    if outer is not None:
        outer[EXCLUDE] = True
