"""Which names options may give: namespace, dimensions, counters, rates."""

from __future__ import annotations

import re
from collections.abc import Mapping

from usage_middleware.errors import ConfigurationError

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIMENSION = re.compile(r"[a-z][a-z0-9_]{0,31}")
#: Names that views use for themselves. `method` is not among them: a dimension of that name replaces the HTTP method.
RESERVED_DIMENSIONS = frozenset({"endpoint", "key", "org", "status", "latency", "calls", "day", "status_class"})

#: What an endpoint of the endpoints view says beside its rates.
RESERVED_RATES = frozenset({"endpoint", "total_requests", "last_requested_at", "buckets"})


def check_namespace(namespace: str) -> None:
    """Refuse what can't be the first segment of a key.

    Raises:
        ConfigurationError: naming the option.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(f"namespace must be 1 to 64 of A-Z a-z 0-9 _ . -, not {namespace!r}")


def check_dimensions(dimensions: tuple[str, ...]) -> None:
    """Refuse what can't be a dimension, or stands twice.

    Raises:
        ConfigurationError: naming the option.
    """
    for name in dimensions:
        if not _DIMENSION.fullmatch(name) or name in RESERVED_DIMENSIONS:
            raise ConfigurationError(
                f"dimensions: {name!r} is not possible; a name begins with a-z, goes on with a-z 0-9 _ (32 at most), "
                f"and is none of {', '.join(sorted(RESERVED_DIMENSIONS))}"
            )
    if len(set(dimensions)) != len(dimensions):
        raise ConfigurationError("dimensions: every name may stand once")


def check_counters(counters: tuple[str, ...], rates: Mapping[str, tuple[str, str]], rank_by: str | None) -> None:
    """Refuse what can't be a counter, and rates and ranks of what is no counter.

    Raises:
        ConfigurationError: naming the option.
    """
    for name in counters:
        if not _DIMENSION.fullmatch(name):
            raise ConfigurationError(f"counters: {name!r} is not possible; a-z first, then a-z 0-9 _, 32 at most")
    if len(set(counters)) != len(counters):
        raise ConfigurationError("counters: every name may stand once")
    for name, pair in rates.items():
        if not _DIMENSION.fullmatch(name) or name in RESERVED_RATES or name.startswith("num_"):
            raise ConfigurationError(
                f"rates: {name!r} is not possible; a-z first, then a-z 0-9 _, 32 at most, not num_..., "
                f"and none of {', '.join(sorted(RESERVED_RATES))}"
            )
        if len(pair) != 2 or not set(pair) <= set(counters):
            raise ConfigurationError(f"rates: {name!r} must be a pair of declared counters ({', '.join(counters) or 'none'})")
    if rank_by is not None and rank_by not in counters:
        raise ConfigurationError(
            f"rank_by must be one of the declared counters ({', '.join(counters) or 'none'}), not {rank_by!r}"
        )


def check_names(option: str, given: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """Refuse names in an option that are none of those that are allowed.

    Raises:
        ConfigurationError: naming the option.
    """
    for name in given:
        if name not in allowed:
            raise ConfigurationError(f"{option}: {name!r} is not one of {', '.join(allowed) or 'the dimensions (none)'}")
