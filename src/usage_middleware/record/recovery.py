"""Sends what other workers of this machine left in the spool, under their numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from usage_middleware.events import calls_in
from usage_middleware.record.attribution import Callers, put
from usage_middleware.record.journal import Journal
from usage_middleware.record.locked_file import LockedFile
from usage_middleware.record.outbox import RETAINED_SECONDS
from usage_middleware.record.sender import MOST_SILENCES, CountError, Sender
from usage_middleware.record.spool import Spool
from usage_middleware.record.spool_format import SpoolState

logger = logging.getLogger("usage_middleware")


class Recovery:
    """Takes the files that nobody has, one at a time.

    Attributes:
        files: how many were left with calls in them.
        calls: how many calls those are.
    """

    def __init__(self, spool: Spool, new_sender: Callable[[], Sender], callers: Callers, count_error: CountError) -> None:
        self._spool = spool
        self._new_sender = new_sender
        self._callers = callers
        self._count_error = count_error
        self._left: dict[Path, int] = {}

    @property
    def files(self) -> int:
        """How many files are left that nobody has, with calls in them."""
        return sum(calls > 0 for calls in self._left.values())

    @property
    def calls(self) -> int:
        """How many calls those are."""
        return sum(self._left.values())

    def paths(self) -> list[Path]:
        """The files that there are, those of living workers too."""
        self._spool.sweep()
        paths = self._spool.paths()
        self._left = {path: calls for path, calls in self._left.items() if path in paths}
        return paths

    def take(self, path: Path, into: Sender, *, send: bool) -> bool:
        """Send a file's calls, or only count them; False when it is no use to go on with others.

        Args:
            path: the file; nothing is done if somebody has it.
            into: whose counts of what went wrong are added to.
            send: False while Redis is away.
        """
        if not send and path in self._left:
            return True
        try:
            file = self._spool.claim(path)
            return self._taken(file, into, send=send) if file is not None else self._not_ours(path)
        except OSError:
            self._count_error("spool")
            return True

    def _not_ours(self, path: Path) -> bool:
        self._left.pop(path, None)
        return True

    def _taken(self, file: LockedFile, into: Sender, *, send: bool) -> bool:
        try:
            left = self._spool.read(file)
            if left is not None and not send:
                self._left[file.path] = left.calls
            elif left is not None:
                return self._sent(left, file, into)
            return True
        finally:
            self._spool.close(file)

    def _sent(self, left: SpoolState, file: LockedFile, into: Sender) -> bool:
        now = self._spool.now()
        had_calls = left.holds_calls
        sender, journal = self._new_sender(), Journal(self._spool, left.worker, file)
        sender.adopt(left.worker, journal)
        too_old = left.outbox(sender.outbox, now)
        unresolved = put(left.cells, self._callers.find(key.caller for key in left.cells), sender.outbox)
        chunks = sender.seal()
        if chunks:
            # Before any of it is sent. A disk that is full keeps it from being sent: it would be counted again.
            journal.note(chunks, unresolved, {}, replaces=True)
        done = self._delivered(sender) and not unresolved
        journal.note_acks(sender.outbox)
        for org, calls in too_old.items() if done else ():
            sender.note_drop(org, calls)
        into.take_counts(sender)
        self._left[file.path] = sender.outbox.calls + calls_in(unresolved)
        if done and had_calls:
            logger.warning("usage: %d calls of a process that is gone were sent from the spool", left.calls)
        elif done and abs(now - left.at) >= RETAINED_SECONDS:
            # Redis still has all of it, so long after.
            journal.remove()
            self._left.pop(file.path, None)
        return not sender.trouble

    def _delivered(self, sender: Sender) -> bool:
        for _ in range(MOST_SILENCES):
            faults = sender.faults
            sender.begin()
            if not sender.verify():
                return False
            sender.send()
            if sender.outbox.settled or sender.trouble or sender.faults == faults:
                break
        sender.confirm()
        return sender.outbox.settled and sender.outbox.confirmed
