"""What the middlewares need of a `Usage`: how to read a request, and where a finished call goes."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from usage_middleware.capture.frameworks import routes
from usage_middleware.capture.frameworks.framework import Route
from usage_middleware.capture.frameworks.litestar import wrap_litestar
from usage_middleware.capture.identity import Identify
from usage_middleware.credentials import Credentials
from usage_middleware.errors import ConfigurationError
from usage_middleware.events import RawCall
from usage_middleware.options import Settings, check_plain_function
from usage_middleware.request_keys import EXCLUDE
from usage_middleware.seen_request import Notes, SeenRequest

logger = logging.getLogger("usage_middleware.capture")

_MAX_APPS = 16
_MAX_NAMES = 64
#: How often `await_calls` looks, seconds.
AWAIT_STEP = 0.005

#: What `Usage(exclude=...)` takes.
Exclude: TypeAlias = str | Iterable[str] | Callable[[Any], bool] | None


class Exclusion:
    """The requests that are not counted.

    A path matches exactly: `/health` is not `/health/`. A path that ends in `*` matches every path with that prefix:
    `/internal/*` everything below `/internal/`, `/internal*` also `/internals`. Paths are those that the application sees,
    without the prefix of its deployment. A callable gets the same request as `identify`, after the application has
    answered, and returns True for a request that is not counted.

    Raises:
        ConfigurationError: if a path does not begin with `/`, or has a `*` before its end; if the callable is async.
    """

    def __init__(self, exclude: Exclude = None) -> None:
        if callable(exclude):
            check_plain_function("exclude", exclude)
        self.predicate: Callable[[Any], bool] | None = exclude if callable(exclude) else None
        paths = () if exclude is None or callable(exclude) else (exclude,) if isinstance(exclude, str) else tuple(exclude)
        for path in paths:
            _require_path(path)
        self._exact = frozenset(path for path in paths if not path.endswith("*"))
        self._begins = tuple(path[:-1] for path in paths if path.endswith("*"))
        self.has_paths = bool(paths)

    def covers(self, path: str) -> bool:
        """True if a path, or a route's template, is excluded by name."""
        return path in self._exact or path.startswith(self._begins)


def _require_path(path: object) -> None:
    if not isinstance(path, str) or not path.startswith("/") or "*" in path[:-1]:
        raise ConfigurationError(f"exclude: a path begins with / and may end with *, not {path!r}; or give a callable")


class TakesCalls(Protocol):
    """Where finished calls go: the recorder, or a list in a test."""

    def take(self, raw: RawCall) -> None:
        """Keep a finished call, to be counted soon."""

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        """Count an error of this package, and log it unless that is done already. Never raises."""

    def flush(self) -> bool:
        """Send what was counted. False if it could not be sent in time."""


class Wrapping(Protocol):
    """A middleware, as far as the routes of its application go."""

    app: Any


class Capture:
    """What the middlewares need of a `Usage`: how to read a request, and where a finished call goes.

    `at_shutdown` runs when the application has shut down (ASGI); without it, the recorder is flushed.

    Raises:
        ConfigurationError: if `identify` is not callable, or `exclude` names no path.
    """

    def __init__(
        self,
        recorder: TakesCalls,
        settings: Settings,
        *,
        identify: Identify | None = None,
        exclude: Exclude = None,
        credentials: Credentials | None = None,
        strict: bool = False,
        timer: Callable[[], float] = time.perf_counter,
        at_shutdown: Callable[[], object] | None = None,
    ) -> None:
        if identify is not None and not callable(identify):
            raise ConfigurationError(f"identify must be callable, not {identify!r}")
        self.recorder = recorder
        self.take = recorder.take
        self.identify = identify
        self.exclusion = Exclusion(exclude)
        #: True if a callable says what is excluded.
        self.has_predicate = self.exclusion.predicate is not None
        self.credentials = credentials or Credentials()
        #: True if the headers of an ASGI scope, which can be read later, are all that it takes.
        self.only_headers = self.credentials.only_headers
        self.dimensions = settings.dimensions
        self.counters = settings.counters
        self.strict = strict
        self.timer = timer
        self.at_shutdown = recorder.flush if at_shutdown is None else at_shutdown
        #: The middlewares, in the order in which they were made. They go when their applications do.
        self._wrapping: WeakKeyDictionary[Wrapping, None] = WeakKeyDictionary()
        self._refused: set[tuple[str, str | None]] = set()
        #: What finishes the calls whose response was dropped without being closed.
        self.abandoned: deque[Callable[[], None]] = deque()
        #: Finds the calls that are being answered on threads now. A middleware for WSGI sets it.
        self.under_way: Callable[[], list[Any]] = list
        #: Records the calls that were answered, and that an event loop will not finish. A middleware for ASGI sets it.
        self.answered: Callable[[Capture], object] = lambda _: None

    def wraps(self, middleware: Wrapping) -> None:
        """Remember a middleware, for `routes()`. That keeps neither it nor its application alive."""
        self._wrapping[middleware] = None
        try:
            wrap_litestar(middleware)
        except Exception:
            self.count_error("framework not hooked")

    def routes(self) -> list[Route]:
        """The routes of the applications that are wrapped, without excluded paths."""
        found = dict.fromkeys(route for app in self._apps() for route in routes(app))
        return [route for route in found if not self.exclusion.covers(route.template)]

    def _apps(self) -> list[Any]:
        apps = {id(app): app for kept in self._wrapping.keyrefs() if (app := getattr(kept(), "app", None)) is not None}
        return list(apps.values())[:_MAX_APPS]

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        """Count an error of this package, and log it unless that is done already. Never raises."""
        try:
            self.recorder.count_error(reason, logged=logged)
        except Exception:
            logger.debug("the recorder could not count an error: %s", reason, exc_info=True)

    def credentials_raised(self) -> None:
        """Count an error of a function in `credentials`."""
        self.count_error("credentials raised")

    def refuse(self, error: Exception, action: str, name: str | None) -> None:
        """Drop something that the application said of a call: counted each time, logged once for each name."""
        known = self._refused
        if (action, name) not in known and len(known) < _MAX_NAMES:
            known.add((action, name))
            logger.warning("track(...).%s: %s; dropped here, an error in development", action, error)
        self.count_error(f"{action} refused", logged=(action, name) in known)

    def finish_abandoned(self) -> None:
        """Record the calls whose response was dropped without being closed."""
        while self.abandoned:
            try:
                self.abandoned.popleft()()
            except IndexError:
                return

    def finish_answered(self) -> None:
        """Record the calls that were answered, and that an event loop will not finish."""
        try:
            self.answered(self)
        except Exception:
            self.count_error("call not recorded")

    def await_calls(self, seconds: float) -> int:
        """Wait until the calls that threads are answering have ended, at most so many seconds; how many have not."""
        calls, over = self.under_way(), time.monotonic() + seconds
        while any(not call.done for call in calls):
            if time.monotonic() >= over:
                return sum(not call.done for call in calls)
            time.sleep(AWAIT_STEP)
        return 0

    def is_excluded(self, notes: Notes, request: Callable[[], SeenRequest]) -> bool:
        """True for a request that is not counted after all."""
        if notes.get(EXCLUDE):
            return True
        if self.exclusion.predicate is None:
            return False
        try:
            return bool(self.exclusion.predicate(request()))
        except Exception:
            self.count_error("exclude raised")
            return False


class HasCapture(Protocol):
    """What a middleware needs of a `Usage`."""

    @property
    def capture(self) -> Capture:
        """How to read a request, and where a finished call goes."""


def capture_of(usage: HasCapture) -> Capture:
    """The capture of what a middleware was given.

    Raises:
        ConfigurationError: if that is no `Usage`.
    """
    found: object = getattr(usage, "capture", None)
    if not isinstance(found, Capture):
        raise ConfigurationError(
            f"usage must be a Usage, as in usage=Usage('redis://localhost:6379/0'), not {type(usage).__name__}"
        )
    return found
