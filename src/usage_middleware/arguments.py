"""What the arguments of `Usage` mean: settings, and whether mistakes are errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import Settings, retention


def settings_of(
    *,
    dimensions: Sequence[str],
    counters: Sequence[str],
    rates: Mapping[str, tuple[str, str]] | None,
    untagged: str | Mapping[str, str],
    retention_changes: Mapping[str, Mapping[str, timedelta | int]] | None,
    max_members: int | Mapping[str, int] | None,
    shards: Mapping[str, int] | None,
    **others: object,
) -> Settings:
    """The settings that these arguments mean; `others` are settings as they are.

    Raises:
        ConfigurationError: naming the option and what is allowed.
    """
    names = _names("dimensions", dimensions)
    limits = dict.fromkeys(("endpoint", "key", "org", *names), max_members) if isinstance(max_members, int) else max_members
    return Settings(
        dimensions=names,
        counters=_names("counters", counters),
        rates=dict(rates or {}),
        untagged=dict.fromkeys(names, untagged) if isinstance(untagged, str) else dict(untagged),
        retention=retention(retention_changes),
        max_members=dict(limits or {}),
        shards=dict(shards or {}),
        **others,  # type: ignore[arg-type]
    )


def _names(option: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise ConfigurationError(f'{option} must be a list or tuple of names, for instance ("{given}",)')
    return tuple(given)


def is_strict(strict: bool | None) -> bool:
    """Whether mistakes in tags and counts are errors."""
    return strict if strict is not None else bool(os.environ.get("USAGE_STRICT")) or sys.flags.dev_mode
