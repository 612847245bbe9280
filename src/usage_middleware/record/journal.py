"""A worker's own file in the spool: written before anything is sent, or once at its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from usage_middleware.events import CallKey, CallTotals
from usage_middleware.record.locked_file import LockedFile
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.spool import Spool
from usage_middleware.record.spool_format import SpoolRecord, encode
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.schema import OPERATOR

#: A file is written anew when it is so much larger than what it has to say.
SLACK_BYTES = 1_000_000
#: So many chunks go into one record when a file is written anew: less is lost with a torn one.
CHUNKS_A_RECORD = 100


class Journal:
    """One worker's file. Every method raises OSError where the disk does not do its part; the file is then as it was.

    Attributes:
        broken: something is missing in it: it has to be written anew.
    """

    def __init__(self, spool: Spool, worker: str, file: LockedFile | None = None) -> None:
        self._spool = spool
        self._worker = worker
        self._file = file
        self._acked: dict[str, int] = {}
        self._written = file.size if file else 0
        self.broken = False

    @property
    def path(self) -> Path | None:
        """Where it is; None while there is nothing in it."""
        return self._file.path if self._file else None

    @property
    def needs_rewriting(self) -> bool:
        """True when most of it is about what is long acknowledged."""
        return self.broken or (self._file is not None and self._file.size > 2 * self._written + SLACK_BYTES)

    def note(
        self, chunks: list[Chunk], cells: Mapping[CallKey, CallTotals], dropped: Mapping[str, int], *, replaces: bool
    ) -> None:
        """Have this on disk."""
        entry = SpoolRecord(self._spool.now(), replaces, chunks, cells, dropped)
        if self._file is None:
            self._create([entry])
        else:
            self._append(entry, durable=True)

    def note_acks(self, outbox: Outbox) -> None:
        """Write down what was acknowledged since. Not worth waiting for the disk: a chunk may be sent twice."""
        acked = {box.org: box.acked for box in outbox.queues() if self._acked.get(box.org, 0) != box.acked}
        if acked and self._file is not None:
            self._append(SpoolRecord(self._spool.now(), acked=acked), durable=False)
            self._acked.update(acked)

    def rewrite(self, outbox: Outbox, cells: Mapping[CallKey, CallTotals]) -> None:
        """Write all there is to say anew, and nothing else."""
        self._create(_entries(outbox, cells, self._spool.now()))

    def leave(self, outbox: Outbox, cells: Mapping[CallKey, CallTotals]) -> int:
        """Write all there is to say and leave it to whoever comes next; how many calls the directory had no room for.

        Those are written down as dropped.
        """
        room = _Room(self._spool.room() + (self._file.size if self._file else 0))
        self._create(room.fitting(_entries(outbox, cells, self._spool.now())))
        self.release()
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
        assert self._file is not None, "nothing was noted yet"
        try:
            self._file.append(encode(entry), durable=durable)
        except OSError:
            self.broken = True
            raise

    def release(self) -> None:
        """Leave it to whoever comes next."""
        file, self._file = self._file, None
        if file is not None:
            self._spool.close(file)

    def remove(self) -> None:
        """Everything is in Redis. Call it before the worker's marks are deleted there."""
        file, self._file = self._file, None
        if file is not None:
            self._spool.remove(file)


class _Room:
    """Lets entries pass while there is room; of the rest, how many calls it were."""

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
    """All that an outbox holds. Nothing in it may wait for a number but drops."""
    boxes = outbox.queues()
    dropped = {box.org: box.dropped for box in boxes if box.dropped}
    retained = [chunk for box in boxes for _, chunk in box.retained]
    numbers = outbox.numbers()
    yield SpoolRecord(now, chunks=retained, sealed=numbers)
    yield SpoolRecord(now, acked={**numbers, **{box.org: box.acked for box in boxes}})
    pending = [chunk for box in boxes for chunk in box.pending]
    for begin in range(0, len(pending), CHUNKS_A_RECORD):
        yield SpoolRecord(now, chunks=pending[begin : begin + CHUNKS_A_RECORD])
    yield SpoolRecord(now, cells=cells, dropped=dropped)
