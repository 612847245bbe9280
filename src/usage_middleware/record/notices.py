"""What the log says of a worker: of each thing when it changes, or once a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable

from usage_middleware.record.spool import Spool
from usage_middleware.store.driver_errors import is_missing_right, reason
from usage_middleware.store.worker_status import OwnStatus

logger = logging.getLogger("usage_middleware")

#: So often a right that is missing is logged, seconds.
WARN_EVERY = 60.0


class Notices:
    """Notes in a worker's status what is the matter, and logs it.

    Args:
        monotonic: seconds that never jump.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._warned_at = float("-inf")

    def state(self, status: OwnStatus, before: str) -> None:
        """The state is another one than `before`."""
        if status.state == "refused":
            logger.error("usage: nothing is written to Redis, and calls are kept in memory: %s", status.reason)
        elif status.state == "away":
            logger.warning("usage: Redis can't be written, and calls are kept until it can: %s", status.reason)
        elif before != "ok":
            logger.warning("usage: Redis is written again")

    def missing_right(self, status: OwnStatus, error: Exception | None) -> bool:
        """Whether this is the error of a right that the user lacks, and that calls can be counted without."""
        if error is None or not is_missing_right(error):
            return False
        status.lost["rights"] = status.lost.get("rights", 0) + 1
        if self._monotonic() >= self._warned_at + WARN_EVERY:
            self._warned_at = self._monotonic()
            logger.warning("usage: Redis does not allow this user everything; what it allows goes on: %s", reason(error))
        return True

    def spool(self, status: OwnStatus, spool: Spool | None) -> None:
        """Find out whether calls can be put on disk, before they have to be."""
        before, status.spool_error = status.spool_error, spool.why_unwritable() if spool is not None else ""
        if status.spool_error and not before:
            logger.error(
                "usage: calls can't be put on disk, and are lost if this process ends while Redis is away; make the directory "
                "writable, free space, or set spool to another one: %s",
                status.spool_error,
            )
        elif before and not status.spool_error:
            logger.warning("usage: calls can be put on disk again")
