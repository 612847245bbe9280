"""The request being recorded: what is noted of it while it runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol, Self

from usage_middleware.capture.identity import Caller
from usage_middleware.capture.track import Track
from usage_middleware.errors import ConfigurationError, UndeclaredName
from usage_middleware.events import MAX_COUNT


class Rules(Protocol):
    """What the application declared, and who is told what can't be taken."""

    dimensions: tuple[str, ...]
    counters: tuple[str, ...]
    strict: bool
    timer: Callable[[], float]

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        """Count an error of ours, and log it unless that is done already. Never raises."""

    def refused(self, error: Exception, action: str, name: str | None) -> None:
        """Drop what the application said of a call and we can't take: logged once for each name, and counted."""


class Call(Track):
    """One request while it is being answered. The shells (asgi.py, wsgi.py) note what they see of it here.

    `tag` and `count` look twice only at what is no plain string or number of a declared name: they run within the request.
    """

    __slots__ = ("caller", "capture", "counts", "done", "method", "notes", "path", "sent", "started", "status", "tags")

    def __init__(self, capture: Rules, notes: MutableMapping[str, Any], method: str, path: str) -> None:
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
        self.tags: Mapping[str, str] | None = None
        self.counts: Mapping[str, int] | None = None
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
        if self.done and not self._open("tag"):
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
        if self.done and not self._open("count"):
            return self
        if self.counts is None:
            declared = self.capture.counters
            for name, value in counts.items():
                if type(value) is not int or name not in declared or not 0 <= value <= MAX_COUNT:
                    break
            else:
                self.counts = counts
                return self
        self.counts = self._counted(counts)
        return self

    def _taggable(self, tags: Mapping[str, object]) -> dict[str, object]:
        """The tags that can be taken, as text."""
        found: dict[str, object] = {}
        for name, value in tags.items():
            try:
                _check_declared(name, self.capture.dimensions, "dimensions")
                found[name] = "" if value is None else str(value)
            except Exception as error:
                self._refuse(error, "tag", name)
        return found

    def _counted(self, counts: Mapping[str, object]) -> dict[str, int]:
        """What is counted so far, with those of these counts that can be taken."""
        found = dict(self.counts or {})
        for name, value in counts.items():
            try:
                _check_declared(name, self.capture.counters, "counters")
                found[name] = _checked_sum(name, found.get(name, 0), value)
            except Exception as error:
                self._refuse(error, "count", name)
        return found

    def _open(self, action: str) -> bool:
        if self.done:
            self.capture.count_error(f"{action} after the last byte of the response")
        return not self.done

    def _refuse(self, error: Exception, action: str, name: str | None) -> None:
        if self.strict:
            raise error
        self.capture.refused(error, action, name)


def _checked_caller(caller: object, org: object, key: object) -> Caller:
    if caller is None:
        return Caller(org, key)
    if not isinstance(caller, Caller) or org is not None or key is not None:
        raise ConfigurationError("identify takes either a Caller, or org= and key=")
    return caller


def _check_declared(name: str, declared: tuple[str, ...], option: str) -> None:
    if name not in declared:
        known = ", ".join(declared) or "none"
        raise UndeclaredName(f"{name!r} is not declared; Usage({option}=...) has {known}")


def _checked_sum(name: str, before: int, value: object) -> int:
    number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    if number < 0 or before + number > MAX_COUNT:
        raise ConfigurationError(f"count: {name!r} takes whole numbers from 0 to 10**12, not {value!r}")
    return before + number
