"""The options, checked once: `Settings`, on which both halves must agree, and `DeliveryOptions` for the recorder."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from usage_middleware.errors import ConfigurationError
from usage_middleware.option_names import check_counters, check_dimensions, check_names, check_namespace
from usage_middleware.periods import Resolutions, resolutions

#: The kinds of counters, each with its own retention: series of the organisation, of an endpoint, of a key; boards; the board
#: under a key.
CounterKind = Literal["series", "endpoint", "key", "board", "key_board"]
Layer = Literal["minute", "middle", "day"]

NONE = "(none)"
DEFAULT_ORG = "default"

_HOURS = 3600
_DAYS = 24 * _HOURS
DEFAULT_RETENTION: Mapping[CounterKind, Mapping[Layer, int]] = MappingProxyType(
    {
        "series": {"minute": 48 * _HOURS, "middle": 100 * _DAYS, "day": 800 * _DAYS},
        "endpoint": {"minute": 3 * _HOURS, "middle": 100 * _DAYS, "day": 400 * _DAYS},
        "key": {"minute": 3 * _HOURS, "middle": 41 * _DAYS, "day": 400 * _DAYS},
        "board": {"minute": 3 * _HOURS, "middle": 9 * _DAYS, "day": 400 * _DAYS},
        "key_board": {"minute": 75 * 60, "middle": 49 * _HOURS, "day": 100 * _DAYS},
    }
)
#: How long packed time is kept, and after how long days are packed; seconds.
HISTORY_KEPT, HISTORY_AFTER = 800 * _DAYS, 35 * _DAYS
#: Half-hours are packed so long after the end of their day, seconds: workers have delivered by then what they had.
HALF_HOURS_AFTER = 2 * _DAYS
DEFAULT_MAX_MEMBERS: Mapping[str, int] = MappingProxyType({"endpoint": 1_000, "org": 100_000})
MAX_MEMBERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options on which all processes must agree, checked. `docs/reference/options.md` describes each.

    Raises:
        ConfigurationError: naming the option and what is allowed.
    """

    namespace: str = "usage"
    dimensions: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    rates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rank_by: str | None = None
    untagged: Mapping[str, str] = field(default_factory=dict)
    endpoint_label: Callable[[str, str], str] | None = None
    slot_minutes: int = 30
    retention: Mapping[CounterKind, Mapping[Layer, int]] = field(default_factory=lambda: DEFAULT_RETENTION)
    max_members: Mapping[str, int] = field(default_factory=lambda: DEFAULT_MAX_MEMBERS)
    shards: Mapping[str, int] = field(default_factory=dict)
    max_unknown_keys: int = 100
    operator_tree: bool = True
    max_unknown_orgs: int = 10_000
    history: bool = True
    history_after: int = HISTORY_AFTER
    history_kept: int = HISTORY_KEPT

    def __post_init__(self) -> None:
        check_namespace(self.namespace)
        check_dimensions(self.dimensions)
        check_counters(self.counters, self.rates, self.rank_by)
        check_names("untagged", self.untagged, self.dimensions)
        _check_untagged(self.untagged)
        check_plain_function("endpoint_label", self.endpoint_label)
        _check_retention(self.retention)
        _check_positive("max_members", self.max_members, ("endpoint", "key", "org", *self.dimensions))
        _check_positive("shards", self.shards, ("endpoint", "key", "org", *self.dimensions))
        if isinstance(self.max_unknown_keys, bool) or not isinstance(self.max_unknown_keys, int) or self.max_unknown_keys < 0:
            raise ConfigurationError(f"max_unknown_keys must be a whole number, 0 or more, not {self.max_unknown_keys!r}")
        resolutions(self.slot_minutes)
        if isinstance(self.max_unknown_orgs, bool) or not isinstance(self.max_unknown_orgs, int) or self.max_unknown_orgs < 1:
            raise ConfigurationError(f"max_unknown_orgs must be a whole number of at least 1, not {self.max_unknown_orgs!r}")
        _check_history(self.history, self.history_after, self.history_kept)

    @property
    def layers(self) -> Resolutions:
        """The three resolutions that `slot_minutes` asks for."""
        return resolutions(self.slot_minutes)

    def kept(self, kind: CounterKind, rank: int) -> int:
        """For how many seconds after its slot ended a counter of this kind is kept; `rank` is the resolution's.

        With history, half-hours and days are packed, and so kept for as long as the history is.
        """
        own = self.kept_without_history(kind, rank)
        return max(own, self.history_kept) if self.history and rank else own

    def kept_without_history(self, kind: CounterKind, rank: int) -> int:
        """As `kept`, of what is never packed."""
        return self.retention[kind][_LAYERS[rank]]

    @property
    def longest_kept(self) -> int:
        """How long the longest-lived counters are kept after their slot, seconds."""
        return max(self.kept(kind, self.layers.day.rank) for kind in self.retention)

    def reach(self, since: int | None, now: int) -> int:
        """How far back history reaches, seconds, if there is history of what was counted `since` then.

        What is older was written when nothing was packed, and is kept for as long as its own kind is.
        """
        first = now if since is None else self.layers.day.ceil(since)
        return max(0, min(self.history_kept, now - first)) if self.history else 0

    def reaching(self, packed: int) -> Settings:
        """The settings with the retention that readers go by, where history reaches back so many seconds."""
        return replace(self, history=False, retention={kind: _at_least(packed, own) for kind, own in self.retention.items()})

    def member_limit(self, dimension: str) -> int:
        """How many members of a dimension an organisation may have before the rest is `(other)`."""
        return self.max_members.get(dimension, DEFAULT_MAX_MEMBERS.get(dimension, MAX_MEMBERS))


def _at_least(seconds: int, own: Mapping[Layer, int]) -> Mapping[Layer, int]:
    return {layer: kept if layer == "minute" else max(kept, seconds) for layer, kept in own.items()}


def boot_clock() -> float:
    """Seconds since the machine started, also those in which it was suspended where the system counts them (Linux)."""
    return time.clock_gettime(_BOOT) if _BOOT is not None else time.monotonic()


_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """How calls get from this process to Redis.

    Attributes:
        flush_interval: how old an unsent call may get, seconds.
        backlog_bytes: how much memory unsent calls may take, and how much disk in `spool`.
        shutdown_timeout: how long the last delivery may take, seconds.
        spool: the directory for calls that can't be delivered at shutdown; None: they are lost.
        journal: whether calls are written to `spool` before they are sent.
        wait_replicas: how many replicas have to confirm a flush before its calls leave the memory.
        clock: seconds since the epoch.
        monotonic: seconds that never jump, and go on while the machine is suspended.
        counted: told of each organisation whose calls were counted just now.

    Raises:
        ConfigurationError: naming the option and what is allowed.
    """

    flush_interval: float = 5.0
    backlog_bytes: int = 64_000_000
    shutdown_timeout: float = 5.0
    spool: Path | None = None
    journal: bool = False
    wait_replicas: int = 0
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = boot_clock
    counted: Callable[[str], object] = lambda org: None

    def __post_init__(self) -> None:
        for option in ("flush_interval", "backlog_bytes", "shutdown_timeout"):
            number = getattr(self, option)
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
                raise ConfigurationError(f"{option} must be a number greater than 0, not {number!r}")
        replicas = self.wait_replicas
        if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
            raise ConfigurationError(f"wait_replicas must be a whole number, 0 or more, not {replicas!r}")
        if self.journal and self.spool is None:
            raise ConfigurationError("journal=True needs a directory to write to: spool=...")


def spool_directory(given: str | os.PathLike[str] | Literal[False] | None, data_dir: Path | None) -> Path | None:
    """The directory that the option `spool` means; `data_dir` is the embedded server's.

    Raises:
        ConfigurationError: it is neither a directory nor None nor False.
    """
    if given is None or given is False:
        return data_dir / "spool" if data_dir is not None and given is None else None
    if isinstance(given, str | os.PathLike) and os.fspath(given):
        return Path(given).expanduser().absolute()
    raise ConfigurationError(f"spool must be a directory, None or False, not {given!r}")


def handles_sigterm(given: object) -> bool:
    """What the option `sigterm` means.

    Raises:
        ConfigurationError: it is neither "auto" nor False.
    """
    if given != "auto" and given is not False:
        raise ConfigurationError(f'sigterm must be "auto" or False, not {given!r}')
    return given == "auto"


_LAYERS: tuple[Layer, Layer, Layer] = ("minute", "middle", "day")


def retention(given: Mapping[str, Mapping[str, timedelta | int]] | None) -> Mapping[CounterKind, Mapping[Layer, int]]:
    """The default retention with what the user changed; seconds or `timedelta`.

    >>> retention({"board": {"day": timedelta(days=800)}})["board"]["day"] // 86400
    800

    Raises:
        ConfigurationError: there is no such kind or layer.
    """
    merged: dict[CounterKind, dict[Layer, int]] = {kind: dict(layers) for kind, layers in DEFAULT_RETENTION.items()}
    for kind, changes in (given or {}).items():
        for layer, lifetime in changes.items():
            if kind not in merged or layer not in _LAYERS:
                raise ConfigurationError(
                    f"retention has no {kind!r} {layer!r}; kinds are {', '.join(merged)}, layers {', '.join(_LAYERS)}; "
                    "of history there are days alone"
                )
            merged[kind][layer] = seconds(lifetime)
    return merged


def seconds(lifetime: timedelta | int) -> int:
    """A time as an option may give it, in seconds."""
    return int(lifetime.total_seconds()) if isinstance(lifetime, timedelta) else int(lifetime)


def _check_history(history: object, after: int, kept: int) -> None:
    if not isinstance(history, bool):
        raise ConfigurationError(f"history must be True or False, not {history!r}")
    if history and not HALF_HOURS_AFTER <= after <= kept:
        raise ConfigurationError(
            f"history_after must be at least 2 days and at most what retention keeps of history, not {after} seconds; "
            "for days give timedelta(days=...)"
        )


def _check_untagged(untagged: Mapping[str, str]) -> None:
    for name, value in untagged.items():
        is_text = isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= 128
        # What else begins with a bracket would look like a reserved member, such as `(other)`.
        if not is_text or (value.startswith("(") and value != NONE):
            raise ConfigurationError(f"untagged: {name!r} must be 1 to 128 bytes of text and not begin with (, not {value!r}")


def check_plain_function(option: str, function: object) -> None:
    """Refuse what can't be called, and what would have to be awaited where nobody awaits: its answer would be taken for True.

    Raises:
        ConfigurationError: naming the option.
    """
    if function is not None and not callable(function):
        raise ConfigurationError(f"{option} must be a function, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise ConfigurationError(f"{option} must be a plain function: nobody would await an async one")


def _check_positive(option: str, given: Mapping[str, int], allowed: tuple[str, ...]) -> None:
    for name, number in given.items():
        if name not in allowed:
            raise ConfigurationError(f"{option}: {name!r} is not one of {', '.join(allowed)}")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigurationError(f"{option}: {name!r} must be a whole number of at least 1, not {number!r}")


def _check_retention(given: Mapping[CounterKind, Mapping[Layer, int]]) -> None:
    for kind in DEFAULT_RETENTION:
        minute, middle, day = (given[kind][layer] for layer in _LAYERS)
        if not 3600 <= minute <= middle <= day:
            raise ConfigurationError(
                f"retention of {kind!r}: minute <= middle <= day, and an hour at least, not {minute}, {middle}, {day} seconds; "
                "for days give timedelta(days=...)"
            )
