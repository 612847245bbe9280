"""The request being recorded: what is noted of it while it runs, `track()` for the application, and its recording."""

from __future__ import annotations

import logging
import operator
import time
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, Self

from usage_middleware.capture.endpoint import has_routes, routes
from usage_middleware.capture.exclude import Exclude, Exclusion
from usage_middleware.capture.identity import Caller, Identify, Member, Request
from usage_middleware.errors import ConfigurationError, UndeclaredName
from usage_middleware.marks import CALL, EXCLUDE
from usage_middleware.store.schema import METHODS, OTHER_METHOD, UNKNOWN, UNMATCHED, endpoint_member, member

log = logging.getLogger("usage_middleware.capture")

#: The greatest number that a counter takes at once: beyond it a float, and so a sorted set of Redis, is not exact.
#: A call counts no more than this of anything: the sum of a slot has to stay below 2**63.
MAX_COUNT = 10**12
_MAX_LABELS = 4096
_MAX_APPS = 16
_MAX_NAMES = 64
_REMEMBERED = 256
_BODILESS = frozenset({204, 304})

_member = lru_cache(maxsize=8192)(member)


class Recording(Protocol):
    """Where finished calls go. The recorder is one; a list in a test is another."""

    def add(
        self,
        caller: tuple[str, str] | bytes,
        endpoint: str,
        tags: tuple[str, ...],
        status: int,
        latency_us: int,
        sent: int,
        counts: tuple[int, ...],
    ) -> None:
        """Count one finished call; `latency_us` in microseconds, `sent` in bytes of body."""

    def lost(self, reason: str, *, logged: bool = False) -> None:
        """Count something that went wrong on our side, and log it unless that is done already; never raises."""

    def flush(self) -> bool:
        """Send what was added; False if it could not be sent in time."""


class Track:
    """What `track()` gives: says of a request who called, what for, and how much. This one says it to nobody."""

    __slots__ = ()

    def identify(self, caller: Caller | None = None, *, org: object = None, key: object = None) -> Self:
        """Say who called; wins over `Usage(identify=...)` and the headers."""
        return self

    def tag(self, **tags: object) -> Self:
        """Say what the call was for, in declared dimensions. None or an empty string takes a tag back."""
        return self

    def count(self, **counts: int) -> Self:
        """Add to declared counters: whole numbers from 0 to 10**12."""
        return self


NOWHERE = Track()


def track(request: Any) -> Track:
    """The request being recorded, to be told who called (`identify`), what for (`tag`) and how much (`count`).

    Takes a request of Starlette, Flask or Django, a bare ASGI scope or a WSGI environ. Outside a recorded request, and
    after the last byte of its response, it does nothing.

    Raises:
        UndeclaredName: from `tag` and `count`, in strict mode or where the application runs with `debug=True`. Otherwise
            the name is dropped, logged once and counted.
    """
    try:
        found = _notes(request).get(CALL)
    except Exception:
        return NOWHERE
    return found if isinstance(found, Call) else NOWHERE


def _notes(request: Any) -> Any:
    """The scope or the environ of a request."""
    if isinstance(request, dict):
        return request
    for name in ("scope", "environ", "env"):
        notes = getattr(request, name, None)
        if notes is not None:
            return notes
    # At last: to ask an abstract class costs as much as all else that `track` does.
    return request if isinstance(request, MutableMapping) else {}


class Call(Track):
    """One request while it is being answered. The shells (asgi.py, wsgi.py) note what they see of it here."""

    __slots__ = ("caller", "capture", "counts", "done", "method", "notes", "path", "sent", "started", "status", "tags")

    def __init__(self, capture: Capture, notes: MutableMapping[str, Any], method: str, path: str) -> None:
        self.capture = capture
        #: The scope or the environ.
        self.notes = notes
        self.method = method
        #: As it was before the application ran: some frameworks change it.
        self.path = path
        #: 0 until the response starts.
        self.status = 0
        self.sent = 0
        self.caller: Caller | None = None
        self.tags: list[str] | None = None
        self.counts: list[int] | None = None
        self.done = False
        self.started = capture.timer()

    @property
    def strict(self) -> bool:
        """True where a mistake in the application's use of us shall be an error: while it is being developed."""
        return self.capture.strict or getattr(self.notes.get("app"), "debug", False) is True

    def identify(self, caller: Caller | None = None, *, org: object = None, key: object = None) -> Self:
        """As `Track.identify`."""
        if self._open("identify") and (caller is not None or org is not None or key is not None):
            try:
                self.caller = _checked_caller(caller, org, key)
            except Exception as error:
                self._refuse(error, "identify", None)
        return self

    def tag(self, **tags: object) -> Self:
        """As `Track.tag`."""
        if self._open("tag"):
            for name, value in tags.items():
                try:
                    self._tag(name, value)
                except Exception as error:
                    self._refuse(error, "tag", name)
        return self

    def count(self, **counts: int) -> Self:
        """As `Track.count`."""
        if self._open("count"):
            for name, value in counts.items():
                try:
                    self._count(name, value)
                except Exception as error:
                    self._refuse(error, "count", name)
        return self

    def _tag(self, name: str, value: object) -> None:
        position = _position(name, self.capture.dimensions, "dimensions")
        if self.tags is None:
            self.tags = list(self.capture.untagged)
        text = "" if value is None else str(value)
        self.tags[position] = tag_member(text) if text else self.capture.untagged[position]

    def _count(self, name: str, value: object) -> None:
        position = _position(name, self.capture.counters, "counters")
        if self.counts is None:
            self.counts = list(self.capture.zeros)
        self.counts[position] = _checked_count(name, value, self.counts[position])

    def _open(self, action: str) -> bool:
        if self.done:
            self.capture.lost(f"{action} after the last byte of the response")
        return not self.done

    def _refuse(self, error: Exception, action: str, name: str | None) -> None:
        if self.strict:
            raise error
        self.capture.refused(error, action, name)


def tag_member(text: str) -> str:
    """A tag's value as a member."""
    return _member(text) if len(text) <= _REMEMBERED else member(text)


def _checked_caller(caller: object, org: object, key: object) -> Caller:
    if caller is None:
        return Caller(org, key)
    if not isinstance(caller, Caller) or org is not None or key is not None:
        raise ConfigurationError("identify takes either a Caller, or org= and key=")
    return caller


def _position(name: str, declared: tuple[str, ...], option: str) -> int:
    try:
        return declared.index(name)
    except ValueError:
        known = ", ".join(declared) or "none"
        raise UndeclaredName(f"{name!r} is not declared; Usage({option}=...) has {known}") from None


def _checked_count(name: str, value: object, before: int) -> int:
    number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    if number < 0 or before + number > MAX_COUNT:
        raise ConfigurationError(f"count: {name!r} takes whole numbers from 0 to 10**12, not {value!r}")
    return before + number


class Capture:
    """What the middlewares need of a `Usage`: how to read a request, and where a finished call goes.

    `at_shutdown` is run when the application has shut down (ASGI); else the recorder is flushed.

    Raises:
        ConfigurationError: if `identify` is not callable, or `exclude` names no path.
    """

    def __init__(
        self,
        recorder: Recording,
        *,
        identify: Identify | None = None,
        exclude: Exclude = None,
        dimensions: Sequence[str] = (),
        untagged: Sequence[str] = (),
        counters: Sequence[str] = (),
        strict: bool = False,
        timer: Callable[[], float] = time.perf_counter,
        at_shutdown: Callable[[], object] | None = None,
    ) -> None:
        if identify is not None and not callable(identify):
            raise ConfigurationError(f"identify must be callable, not {identify!r}")
        self.recorder = recorder
        self.asks_who = identify
        self.exclusion = Exclusion(exclude)
        self.dimensions = tuple(dimensions)
        self.untagged = tuple(untagged)
        self.counters = tuple(counters)
        self.zeros = (0,) * len(self.counters)
        self.strict = strict
        self.timer = timer
        self.at_shutdown = recorder.flush if at_shutdown is None else at_shutdown
        self.apps: list[Any] = []
        self._warned = False
        self._labels: dict[tuple[str, str], str] = {}
        self._named: set[tuple[str, str | None]] = set()
        self._abandoned: deque[Callable[[], None]] = deque()

    def wraps(self, app: Any) -> None:
        """Remember an application that a middleware wraps, for `routes()`."""
        if len(self.apps) < _MAX_APPS and not any(known is app for known in self.apps):
            self.apps.append(app)

    def routes(self) -> list[tuple[str, str]]:
        """The public routes of the applications wrapped so far, as (method, template), without excluded paths."""
        found = [pair for app in self.apps for pair in routes(app)]
        return [pair for pair in dict.fromkeys(found) if not self.exclusion.covers(pair[1])]

    def lost(self, reason: str, *, logged: bool = False) -> None:
        """Count an error of ours, and log it unless that is done already. Never raises."""
        try:
            self.recorder.lost(reason, logged=logged)
        except Exception:
            log.debug("the recorder could not note a loss: %s", reason, exc_info=True)

    def refused(self, error: Exception, action: str, name: str | None) -> None:
        """Drop what the application said of a call and we can't take: logged once for each name, and counted."""
        is_new = (action, name) not in self._named
        if is_new and len(self._named) < _MAX_NAMES:
            self._named.add((action, name))
            log.warning("track(...).%s: %s; dropped here, an error in development", action, error)
            is_new = False
        self.lost(f"{action} refused", logged=not is_new)

    def abandon(self, finish: Callable[[], None]) -> None:
        """Leave a call that nobody finished to whoever comes next.

        Called while an object is being collected, which may be in the midst of anything, the recorder's lock included:
        so it must do no more than this.
        """
        self._abandoned.append(finish)

    def settle(self) -> None:
        """Record the calls whose response was dropped without being closed."""
        while self._abandoned:
            try:
                self._abandoned.popleft()()
            except IndexError:
                return

    def unplaced(self, status: int, routed: bool, app: Any) -> str:
        """What stands for the template where none was found.

        `(unmatched)` where no route was reached. `(unknown)` where one was, of an application that has routes, and a
        middleware in between works on a copy of the scope or environ, so that nothing of the match can be seen.
        """
        if routed or 300 <= status < 500 or not has_routes(app):
            return UNMATCHED
        if status < 300:
            self._warn_unknown()
        return UNKNOWN

    def _warn_unknown(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "a request was answered and its route can't be seen: a middleware inside this one answers by itself, or "
                "hands on a copy of the scope (environ). Install it outside, or leave the template under 'usage.route'."
            )

    def label(self, method: str, template: str) -> str:
        """The endpoint's member, remembered."""
        label = self._labels.get((method, template))
        if label is None:
            verb = method if method in METHODS else OTHER_METHOD
            label = endpoint_member(verb, template)
            if len(self._labels) < _MAX_LABELS and verb == method:
                self._labels[method, template] = label
        return label

    def is_excluded(self, call: Call, request: Callable[[], Request]) -> bool:
        """True for a request that is not to be counted after all."""
        if call.notes.get(EXCLUDE):
            return True
        if self.exclusion.asks is None:
            return False
        try:
            return bool(self.exclusion.asks(request()))
        except Exception:
            self.lost("exclude raised")
            return False

    def record(self, call: Call, caller: Member, template: str, latency: float) -> None:
        """Hand a finished call to the recorder; `latency` in seconds."""
        self.recorder.add(
            caller,
            self.label(call.method, template),
            self.untagged if call.tags is None else tuple(call.tags),
            # What is no status, as an application may send by mistake, must not become a counter of its own each time.
            call.status if 100 <= call.status <= 999 else 500,
            int(latency * 1e6) if latency > 0 else 0,
            0 if call.method == "HEAD" or call.status in _BODILESS else min(max(call.sent, 0), MAX_COUNT),
            self.zeros if call.counts is None else tuple(call.counts),
        )


def capture_of(usage: Captured) -> Capture:
    """What a middleware was given, checked.

    Raises:
        ConfigurationError: it is no `Usage`.
    """
    found: object = getattr(usage, "capture", None)
    if not isinstance(found, Capture):
        raise ConfigurationError(
            f"usage must be a Usage, as in usage=Usage('redis://localhost:6379/0'), not {type(usage).__name__}"
        )
    return found


class Captured(Protocol):
    """What a middleware needs of a `Usage`."""

    @property
    def capture(self) -> Capture:
        """How to read a request, and where a finished call goes."""
