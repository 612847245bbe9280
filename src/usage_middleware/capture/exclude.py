"""What is not counted: `Usage(exclude=...)`, as paths or as a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import check_plain_function

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
