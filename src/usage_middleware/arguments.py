"""What the arguments of `Usage` mean: settings, and whether mistakes are errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import HALF_HOURS_AFTER, HISTORY_AFTER, Settings, retention, seconds

#: The name of packed time in `retention`. It has days alone.
HISTORY = "history"


def settings_of(
    *,
    dimensions: Sequence[str],
    counters: Sequence[str],
    rates: Mapping[str, tuple[str, str]] | None,
    untagged: str | Mapping[str, str],
    retention_changes: Mapping[str, Mapping[str, timedelta | int]] | None,
    max_members: int | Mapping[str, int] | None,
    shards: Mapping[str, int] | None,
    history: bool,
    history_after: timedelta | int,
    **others: object,
) -> Settings:
    """The settings that these arguments mean; `others` are settings as they are.

    Raises:
        ConfigurationError: naming the option and what is allowed.
    """
    names = _names("dimensions", dimensions)
    changes = dict(retention_changes or {})
    packed = _packed(changes)
    kept = retention(changes)
    # Who keeps days for a shorter time means packed ones, too, unless it is said how long these are kept.
    history_kept = kept["series"]["day"] if packed is None else packed
    after = seconds(history_after)
    limits = dict.fromkeys(("endpoint", "key", "org", *names), max_members) if isinstance(max_members, int) else max_members
    return Settings(
        dimensions=names,
        counters=_names("counters", counters),
        rates=dict(rates or {}),
        untagged=dict.fromkeys(names, untagged) if isinstance(untagged, str) else dict(untagged),
        history=history if packed is not None or history_kept >= HALF_HOURS_AFTER else False,
        history_kept=history_kept,
        history_after=min(after, history_kept) if after == HISTORY_AFTER and packed is None else after,
        retention=kept,
        max_members=dict(limits or {}),
        shards=dict(shards or {}),
        **others,  # type: ignore[arg-type]
    )


def _names(option: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise ConfigurationError(f'{option} must be a list or tuple of names, for instance ("{given}",)')
    return tuple(given)


def _packed(changes: dict[str, Mapping[str, timedelta | int]]) -> int | None:
    """Take out of the changes of retention how long packed time is kept, seconds; None if that is not said."""
    found = changes.get(HISTORY, {})
    if set(found) <= {"day"}:
        changes.pop(HISTORY, None)
    return seconds(found["day"]) if "day" in found else None


def is_strict(strict: bool | None) -> bool:
    """Whether mistakes in tags and counts are errors."""
    return strict if strict is not None else bool(os.environ.get("USAGE_STRICT")) or sys.flags.dev_mode
