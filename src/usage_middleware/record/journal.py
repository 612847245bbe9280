"""A worker's own file in the spool: with a journal written before anything is sent, else once at the end."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping

from usage_middleware.events import CallKey, CallTotals
from usage_middleware.record.locked_file import LockedFile
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.spool import Spool
from usage_middleware.record.spool_format import SpoolRecord, encode
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.members import OPERATOR

#: A file is rewritten when it has grown to twice its size and this much more, bytes.
SLACK_BYTES = 1_000_000
#: How many chunks go into one record when a file is rewritten: with a torn record less is lost.
CHUNKS_A_RECORD = 100


class Journal:
    """One worker's file. Methods raise OSError if the disk fails; the file is then as it was before.

    Attributes:
        broken: True if something is missing in the file. Then it has to be rewritten.
    """

    def __init__(self, spool: Spool, worker: str, file: LockedFile | None = None) -> None:
        self._spool = spool
        self._worker = worker
        self._file = file
        self._acked: dict[str, int] = {}
        self._written = file.size if file else 0
        self.broken = False

    @property
    def needs_rewriting(self) -> bool:
        """True if something is missing, or most of it was acknowledged long ago."""
        return self.broken or (self._file is not None and self._file.size > 2 * self._written + SLACK_BYTES)

    def note(
        self, chunks: list[Chunk], cells: Mapping[CallKey, CallTotals], dropped: Mapping[str, int], *, replaces: bool
    ) -> None:
        """Write calls to disk.

        Args:
            chunks: calls that have got a number now.
            cells: calls without a number.
            dropped: calls without a number that will never be counted, by organisation.
            replaces: whether all this stands for every call without a number that was noted before.
        """
        entry = SpoolRecord(self._spool.now(), replaces, chunks, cells, dropped)
        if self._file is None:
            self._create([entry])
        else:
            self._append(entry, durable=True)

    def note_acks(self, outbox: Outbox) -> None:
        """Note what was acknowledged since. It does not wait for the disk, because a chunk may be sent twice."""
        acked = {queue.org: queue.acked for queue in outbox.queues() if self._acked.get(queue.org, 0) != queue.acked}
        if acked and self._file is not None:
            self._append(SpoolRecord(self._spool.now(), acked=acked), durable=False)
            self._acked.update(acked)

    def rewrite(self, outbox: Outbox, cells: Mapping[CallKey, CallTotals]) -> None:
        """Write everything that is not acknowledged to a new file."""
        self._create(_entries(outbox, cells, self._spool.now()))

    def hand_over(self, outbox: Outbox, cells: Mapping[CallKey, CallTotals]) -> int:
        """Write everything that is not acknowledged, and release the file for the next process.

        Returns how many calls the directory had no room for. They are noted as dropped.
        """
        room = _Room(self._spool.room() + (self._file.size if self._file else 0))
        self._create(room.fitting(_entries(outbox, cells, self._spool.now())))
        self._release()
        return room.lost

    def _create(self, entries: Iterable[SpoolRecord]) -> None:
        self.broken = True
        before, self._file = self._file, self._spool.create(self._worker, entries)
        self.broken = False
        self._written = self._file.size
        self._acked = {}
        if before is not None:
            self._spool.close(before)

    def _append(self, entry: SpoolRecord, *, durable: bool) -> None:
        assert self._file is not None, "the file was not created"
        try:
            if self._file.is_gone:
                raise FileNotFoundError(errno.ENOENT, "somebody has deleted it", self._file.path)
            self._file.append(encode(entry), durable=durable)
        except OSError:
            self.broken = True
            raise

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._spool.close(file)

    def remove(self) -> None:
        """Delete the file, when everything in it is in Redis. Call it before the worker's marks are deleted there."""
        file, self._file = self._file, None
        if file is not None:
            self._spool.remove(file)


class _Room:
    """Lets records pass while there is room, and counts the calls in the others."""

    def __init__(self, left: int) -> None:
        self._left = left
        self.lost = 0

    def fitting(self, entries: Iterable[SpoolRecord]) -> Iterator[SpoolRecord]:
        dropped: dict[str, int] = {}
        for entry in entries:
            size = len(encode(entry))
            if size <= self._left or not (entry.chunks or entry.cells):
                self._left -= size
                yield entry
                continue
            for org, calls in _calls(entry):
                dropped[org] = dropped.get(org, 0) + calls
        if dropped:
            self.lost = sum(calls for org, calls in dropped.items() if org != OPERATOR)
            yield SpoolRecord(0, dropped=dropped)


def _calls(entry: SpoolRecord) -> Iterator[tuple[str, int]]:
    for chunk in entry.chunks:
        yield chunk.org, chunk.dropped + chunk.calls
    for key, totals in entry.cells.items():
        yield key.owner[0], totals.calls
        yield OPERATOR, totals.calls
    yield from entry.dropped.items()


def _entries(outbox: Outbox, cells: Mapping[CallKey, CallTotals], now: int) -> Iterator[SpoolRecord]:
    """All that an outbox and these cells hold. Everything in the outbox has a number, except drops."""
    queues = outbox.queues()
    dropped = {queue.org: queue.dropped for queue in queues if queue.dropped}
    retained = [chunk for queue in queues for _, chunk in queue.retained]
    numbers = outbox.numbers()
    yield SpoolRecord(now, chunks=retained, sealed=numbers)
    yield SpoolRecord(now, acked={**numbers, **{queue.org: queue.acked for queue in queues}})
    pending = [chunk for queue in queues for chunk in queue.pending]
    for begin in range(0, len(pending), CHUNKS_A_RECORD):
        yield SpoolRecord(now, chunks=pending[begin : begin + CHUNKS_A_RECORD])
    yield SpoolRecord(now, cells=cells, dropped=dropped)
