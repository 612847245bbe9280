"""`track()`: an application says who made the request that it is answering, what for, and how much it used."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Self

from usage_middleware.request_keys import CALL

if TYPE_CHECKING:
    from usage_middleware.capture.identity import Caller

#: The attributes in which a request may hold its scope or environ. The right one is cached by type, because asking Flask's
#: `request` for an attribute that it lacks is slow.
_PLACES = ("scope", "environ", "env")
_MAX_KINDS = 64
_place_of: dict[type, str] = {}


class Track:
    """What `track()` returns. This one does nothing: it is for requests that are not recorded."""

    __slots__ = ()

    def identify(self, caller: Caller | None = None, *, org: object = None, key: object = None) -> Self:
        """Say who called; wins over `Usage(identify=...)` and the headers."""
        return self

    def tag(self, **tags: object) -> Self:
        """Say what the call was for, in declared dimensions. None or an empty string removes a tag."""
        return self

    def count(self, **counts: int) -> Self:
        """Add to declared counters: whole numbers from 0 to 10**12."""
        return self


NOWHERE = Track()


def track(request: Any) -> Track:
    """The request being recorded, with the methods `identify` (who called), `tag` (what for) and `count` (how much).

    Takes a request of Starlette, Flask or Django, a bare ASGI scope or a WSGI environ. Outside a recorded request, and
    after the last byte of its response, it does nothing.

    Raises:
        UndeclaredName: from `tag` and `count`, in strict mode or where the application runs with `debug=True`. Otherwise
            the name is dropped, logged once and counted.
    """
    try:
        place = _place_of.get(type(request))
        notes = None if place is None else getattr(request, place, None)
        found = (_notes(request) if notes is None else notes).get(CALL)
    except Exception:
        return NOWHERE
    return found if isinstance(found, Track) else NOWHERE


def _notes(request: Any) -> Any:
    """The scope or the environ of a request."""
    if isinstance(request, dict):
        return request
    for place in _PLACES:
        notes = getattr(request, place, None)
        if notes is not None:
            if len(_place_of) < _MAX_KINDS:
                _place_of[type(request)] = place
            return notes
    # Last, because asking an abstract class costs as much as the rest of `track`.
    return request if isinstance(request, MutableMapping) else {}
