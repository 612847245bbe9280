"""Sends what processes of this machine that have ended left in the spool, under their workers' numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from usage_middleware.record.aggregate import Batch
from usage_middleware.record.attribution import CountError
from usage_middleware.record.journal import Journal
from usage_middleware.record.locked_file import LockedFile
from usage_middleware.record.outbox import RETAINED_SECONDS
from usage_middleware.record.sender import Sender
from usage_middleware.record.spool import Spool
from usage_middleware.record.spool_format import SpoolState
from usage_middleware.store.worker_status import OwnStatus

logger = logging.getLogger("usage_middleware")


class Recovery:
    """Takes files that no living process has locked, one at a time, and sends them as the worker that wrote them."""

    def __init__(
        self, spool: Spool, new_sender: Callable[[OwnStatus, Journal | None], Sender], count_error: CountError
    ) -> None:
        self._spool = spool
        self._new_sender = new_sender
        self._count_error = count_error
        self._left: dict[Path, int] = {}
        self._put_aside = 0
        #: Files of another version, or of somebody else, and what is no file.
        self._unreadable: set[Path] = set()

    @property
    def counts(self) -> dict[str, int]:
        """What a worker's status says of the spool: files of processes that have ended, and their calls; damaged files."""
        return {
            "spool_files": sum(calls > 0 for calls in self._left.values()),
            "spool_calls": sum(self._left.values()),
            "spool_damaged": self._put_aside + len(self._unreadable),
        }

    def paths(self) -> list[Path]:
        """Every file, including those of living processes."""
        self._spool.sweep()
        paths = self._spool.paths()
        self._put_aside = len(self._spool.damaged())
        self._unreadable &= set(paths)
        self._left = {path: calls for path, calls in self._left.items() if path in paths}
        return paths

    def recover(self, path: Path, into: OwnStatus, *, sending: bool) -> bool:
        """Send a file's calls, or only count them; False if Redis can't be written.

        Args:
            path: the file. Nothing is done if a living process has it.
            into: the status that what goes wrong is added to.
            sending: False while Redis is away.
        """
        if not sending and path in self._left:
            return True
        try:
            file = self._claim(path)
            if file is not None:
                return self._recover(file, into, sending=sending)
            self._left.pop(path, None)
        except Exception:  # Whatever is in a file, the others are sent.
            self._count_error("spool")
        return True

    def _claim(self, path: Path) -> LockedFile | None:
        """Take over a file; None if another process has it.

        Raises:
            OSError: it belongs to somebody else, or is no file. Then it counts as unreadable until that changes.
        """
        try:
            file = self._spool.claim(path)
        except OSError:
            self._unreadable.add(path)
            raise
        self._unreadable.discard(path)
        return file

    def _recover(self, file: LockedFile, into: OwnStatus, *, sending: bool) -> bool:
        try:
            left = self._spool.read(file)
            if left is None:
                self._give_up(file)
            elif sending:
                return self._send(left, file, into)
            else:
                self._left[file.path] = left.calls
            return True
        finally:
            self._spool.close(file)

    def _give_up(self, file: LockedFile) -> None:
        """Nothing of a file can be read. One of another version stays where it is."""
        self._count_error("spool damaged")
        if file.is_ours:
            self._put_aside += 1
            self._spool.put_aside(file, whole=True)
        else:
            self._unreadable.add(file.path)

    def _send(self, left: SpoolState, file: LockedFile, into: OwnStatus) -> bool:
        now = self._spool.now()
        had_calls = left.holds_calls
        status, journal = OwnStatus(worker=left.worker), Journal(self._spool, left.worker, file)
        sender = self._new_sender(status, journal)
        if left.damaged:
            self._count_error("spool damaged")
            self._put_aside += 1
            self._spool.put_aside(file, whole=False)
            # What can be read goes into a new file.
            journal.broken = True
        too_old = left.outbox(sender.outbox, now)
        sender.parked.park(left.cells, {})
        sender.accept(Batch({}, {}, 0))
        # A full disk raises here, and nothing is sent: without the numbers on disk it would be counted again.
        sender.write_ahead(journal)
        done = sender.deliver() and not sender.parked
        sender.note_acks()
        for org, calls in too_old.items() if done else ():
            sender.drop(org, calls)
        into.add(status)
        self._left[file.path] = sender.calls
        if done:
            sender.settle()
        if done and had_calls:
            logger.warning("usage: %d calls that an ended process had left in the spool were sent", left.calls)
        elif done and abs(now - left.at) >= RETAINED_SECONDS:
            # Redis has had all of it for long enough.
            journal.remove()
            self._left.pop(file.path, None)
        return not sender.error
