"""Whether a request failed because its client left, by the exception that the application raised."""

from __future__ import annotations

from collections.abc import Callable

#: The status of a call whose client left before the response began.
CLIENT_LEFT = 499

_CANCELLED = frozenset({"CancelledError", "Cancelled"})
_LEAVING = _CANCELLED | {"ClientDisconnect"}


def status_of_failure(error: BaseException, has_left: Callable[[], bool]) -> int:
    """The status of a call whose application raised before its response began.

    Servers answer 500 where a task is cancelled, by itself or by them, and the client is still there.
    """
    left = _is_only(error, _LEAVING) and (has_left() or not _is_only(error, _CANCELLED))
    return CLIENT_LEFT if left else 500


def _is_only(error: BaseException, kinds: frozenset[str]) -> bool:
    """True for an error of one of these kinds, and for a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_only(one, kinds) for one in error.exceptions)
    return any(kind.__name__ in kinds for kind in type(error).__mro__)
