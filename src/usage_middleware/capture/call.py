"""The request being recorded: what is known of it while it runs."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Self

from usage_middleware.capture.identity import Caller
from usage_middleware.errors import ConfigurationError, UndeclaredName
from usage_middleware.events import MAX_COUNT
from usage_middleware.request_keys import CALL
from usage_middleware.seen_request import Notes

if TYPE_CHECKING:
    from usage_middleware.capture.capture import Capture

#: The attributes in which a request may hold its scope or environ. The right one is cached by the id of the type, because
#: asking Flask's `request` for an attribute that it lacks is slow. No type is kept alive: it may know its application.
_PLACES = ("scope", "environ", "env")
_MAX_KINDS = 64
_place_of: dict[int, str] = {}
_kinds: dict[int, weakref.ref[type]] = {}


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
        place = _place_of.get(id(type(request)))
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
            _remember(type(request), place)
            return notes
    # Last, because asking an abstract class costs as much as the rest of `track`.
    return request if isinstance(request, MutableMapping) else {}


def _remember(kind: type, place: str) -> None:
    number = id(kind)

    def forget(_: object) -> None:
        _place_of.pop(number, None)
        _kinds.pop(number, None)

    if len(_kinds) < _MAX_KINDS:
        _kinds[number] = weakref.ref(kind, forget)
        _place_of[number] = place


class Call(Track):
    """One request while it is being answered.

    It has no constructor: the middlewares (asgi.py, wsgi.py) set the fields themselves, because another function call in
    each request costs too much. For the same reason `tag` and `count` check values one by one only if some of them is not
    a plain string or number under a declared name.

    Attributes:
        capture: the middleware's settings, and where the finished call goes.
        notes: the scope or the environ.
        method: the HTTP method.
        path: as it was before the application ran; some frameworks change it.
        status: 0 until the response starts.
        sent: bytes of the body so far.
        caller: who called, as the application said.
        tags: what the application said, by dimension.
        counts: what the application counted, by counter.
        done: True once the call is recorded.
        started: when, on the capture's timer.
    """

    __slots__ = ("caller", "capture", "counts", "done", "method", "notes", "path", "sent", "started", "status", "tags")

    capture: Capture
    notes: Notes
    method: str
    path: str
    status: int
    sent: int
    caller: Caller | None
    tags: Mapping[str, str] | None
    counts: Mapping[str, int] | None
    done: bool
    started: float

    def __deepcopy__(self, memo: object) -> Self:
        """The call itself: a copy of the scope or environ is of the same request."""
        return self

    def __reduce__(self) -> tuple[type[Track], tuple[()]]:
        """Pickled it is nothing: in another process, no request is being recorded."""
        return Track, ()

    @property
    def strict(self) -> bool:
        """True if the application's mistakes in tags and counts are errors, as they are in development."""
        return self.capture.strict or getattr(self.notes.get("app"), "debug", False) is True

    def identify(self, caller: Caller | None = None, *, org: object = None, key: object = None) -> Self:
        """As `Track.identify`."""
        if self._is_open("identify") and (caller is not None or org is not None or key is not None):
            try:
                self.caller = _caller_of(caller, org, key)
            except Exception as error:
                self._refuse(error, "identify", None)
        return self

    def tag(self, **tags: object) -> Self:
        """As `Track.tag`."""
        if self.done and not self._is_open("tag"):
            return self
        declared = self.capture.dimensions
        for name, value in tags.items():
            if type(value) is not str or name not in declared:
                tags = self._taggable(tags)
                break
        self.tags = tags if self.tags is None else {**self.tags, **tags}  # type: ignore[assignment]
        return self

    def count(self, **counts: int) -> Self:
        """As `Track.count`."""
        if self.done and not self._is_open("count"):
            return self
        if self.counts is None:
            declared = self.capture.counters
            for name, value in counts.items():
                if type(value) is not int or name not in declared or not 0 <= value <= MAX_COUNT:
                    break
            else:
                self.counts = counts
                return self
        self.counts = self._add_up(counts)
        return self

    def _taggable(self, tags: Mapping[str, object]) -> dict[str, object]:
        """The tags in declared dimensions, as text."""
        found: dict[str, object] = {}
        for name, value in tags.items():
            try:
                _require_declared(name, self.capture.dimensions, "dimensions")
                found[name] = "" if value is None else str(value)
            except Exception as error:
                self._refuse(error, "tag", name)
        return found

    def _add_up(self, counts: Mapping[str, object]) -> dict[str, int]:
        """The counts so far, with the valid ones of these added."""
        found = dict(self.counts or {})
        for name, value in counts.items():
            try:
                _require_declared(name, self.capture.counters, "counters")
                found[name] = found.get(name, 0) + _require_amount(name, value, MAX_COUNT - found.get(name, 0))
            except Exception as error:
                self._refuse(error, "count", name)
        return found

    def _is_open(self, action: str) -> bool:
        if self.done:
            self.capture.count_error(f"{action} after the last byte of the response")
        return not self.done

    def _refuse(self, error: Exception, action: str, name: str | None) -> None:
        if self.strict:
            raise error
        self.capture.refuse(error, action, name)


def _caller_of(caller: object, org: object, key: object) -> Caller:
    if caller is None:
        return Caller(org, key)
    if not isinstance(caller, Caller) or org is not None or key is not None:
        raise ConfigurationError("identify takes either a Caller, or org= and key=")
    return caller


def _require_declared(name: str, declared: tuple[str, ...], option: str) -> None:
    if name not in declared:
        known = ", ".join(declared) or "none"
        raise UndeclaredName(f"{name!r} is not declared; Usage({option}=...) has {known}")


def _require_amount(name: str, value: object, most: int) -> int:
    number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    if not 0 <= number <= most:
        raise ConfigurationError(f"count: {name!r} takes whole numbers from 0 to 10**12, not {value!r}")
    return number
