"""The spool: calls on disk that Redis has not acknowledged, one file a worker, each call counted once whoever sends it.

A worker's file says what the worker's memory says: chunks under their numbers, the last number of each organisation, the last
number that was acknowledged, and calls that have no number yet (their credentials could not be resolved, or Redis was away).
Whoever has the file *is* that worker: it sends the chunks under the worker's name and numbers, and the script in Redis applies
no number twice. So it does not matter how often a sender dies, or when.

- A file has one owner. A living worker keeps its file locked (`flock`); the kernel releases the lock when the process dies, and
  of all that wait for the file one gets it. Marks in Redis are deleted by a worker that ends in good order, after its file.
- A chunk is on disk before it is sent, or was never sent at all: no number on disk is ever given to other calls. New numbers
  go on after the last one that the file knows.
- Calls get numbers in one step: a single record both adds the chunks and takes away the calls without numbers that are in them.
  It is whole, then they are in the chunks; or torn, then they have no numbers and were not sent. Which organisation a
  credential belongs to is asked before that step, by whoever makes it.
- Redis keeps a worker's mark for 8 days after its last chunk. A chunk that is older than 7 days is not sent: nobody
  could tell any more whether it was counted. Its calls are counted as dropped. Calls without a number have no such end.
- Acknowledged chunks of the last 10 seconds stay in the file: a Redis that lost them with its machine gets them again.

A file holds no secrets: callers are names, or the BLAKE2b digest of a credential, without the pepper. Whoever can guess a
credential can recognise its digest; so the directory's mode is 700 and the files' is 600.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.periods import DAY
from usage_middleware.record.aggregate import Cell, CellKey, organisation
from usage_middleware.record.locked_file import UNFINISHED, LockedFile
from usage_middleware.record.outbox import RETAINED_SECONDS, Outbox
from usage_middleware.settings import NONE, Settings
from usage_middleware.store.chunk import Chunk, Row
from usage_middleware.store.schema import OPERATOR

#: A day less than Redis remembers a worker's last number.
SENT_SECONDS = 7 * DAY
SUFFIX = ".calls"
#: To write a file takes no hour.
UNFINISHED_SECONDS = 3600
#: A file is written anew when it is so much larger than what it has to say.
SLACK_BYTES = 1_000_000
#: So many chunks go into one record when a file is written anew: less is lost with a torn one.
CHUNKS_A_RECORD = 100


class Loose(msgspec.Struct, array_like=True, gc=False):
    """Calls that are alike and have no number yet: a cell of the aggregate with its key."""

    minute: int
    caller: tuple[str, str] | bytes
    endpoint: str
    tags: tuple[str, ...]
    status: int
    calls: int
    latency_us: int
    sent: int
    last_ms: int
    counts: tuple[int, ...]
    bins: dict[int, int]


class Head(msgspec.Struct, array_like=True):
    """The first record: whose numbers these are, and what the places in `tags` and `counts` mean."""

    namespace: str
    worker: str
    dimensions: tuple[str, ...]
    counters: tuple[str, ...]


class Entry(msgspec.Struct, array_like=True):
    """Every other record: one thing that happened.

    Attributes:
        at: when, seconds since the epoch.
        replaces: `chunks`, `cells` and `dropped` stand for all the calls without a number so far.
        chunks: calls that have a number now.
        cells: calls without a number.
        dropped: calls without a number that will never be counted, by organisation; the latest record counts.
        acked: the number of the last chunk that Redis has, by organisation; the latest record counts.
        sealed: the last number that was given away, by organisation.
    """

    at: int
    replaces: bool = False
    chunks: list[Chunk] = []
    cells: list[Loose] = []
    dropped: dict[str, int] = {}
    acked: dict[str, int] = {}
    sealed: dict[str, int] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode = msgspec.msgpack.Decoder(Entry).decode


def loose(cells: Mapping[CellKey, Cell]) -> list[Loose]:
    """Cells as they are written."""
    return [
        Loose(*key, cell.calls, cell.latency_us, cell.sent, cell.last_ms, cell.counts, cell.bins) for key, cell in cells.items()
    ]


class Left:
    """What a file says, record by record.

    Attributes:
        worker: whose numbers these are.
        cells: calls without a number.
        dropped: calls without a number that will never be counted, by organisation.
        at: when something was last written, seconds since the epoch.
    """

    def __init__(self, head: Head, settings: Settings) -> None:
        self.worker = head.worker
        self.cells: dict[CellKey, Cell] = {}
        self.dropped: dict[str, int] = {}
        self._fit = _Fit(head, settings)
        self._chunks: dict[str, dict[int, Chunk]] = {}
        self._acks: dict[str, list[tuple[int, int]]] = {}
        self._sealed: dict[str, int] = {}
        self.at = 0

    def take(self, entry: Entry) -> None:
        """Add what happened next."""
        self.at = max(self.at, entry.at)
        if entry.replaces:
            self.cells, self.dropped = {}, {}
        for one in entry.cells:
            self._take_loose(one)
        self.dropped.update(entry.dropped)
        for chunk in entry.chunks:
            fitting = chunk._replace(rows=[self._fit.row(row) for row in chunk.rows])
            self._chunks.setdefault(chunk.org, {})[chunk.number] = fitting
            self._seal(chunk.org, chunk.number)
        for org, number in entry.acked.items():
            self._acks.setdefault(org, []).append((entry.at, number))
            self._seal(org, number)
        for org, number in entry.sealed.items():
            self._seal(org, number)

    def _seal(self, org: str, number: int) -> None:
        self._sealed[org] = max(self._sealed.get(org, 0), number)

    def _take_loose(self, one: Loose) -> None:
        cell = Cell(self._fit.counts(one.counts), one.calls, one.latency_us, one.sent, one.last_ms, one.bins)
        add(self.cells, (one.minute, one.caller, one.endpoint, self._fit.tags(one.tags), one.status), cell)

    def pending(self, org: str) -> list[Chunk]:
        """The chunks that are not known to be in Redis, in order."""
        acked = self._acked(org)
        return [chunk for number, chunk in sorted(self._chunks.get(org, {}).items()) if number > acked]

    def _acked(self, org: str) -> int:
        return self._acks[org][-1][1] if org in self._acks else 0

    def _retained(self, org: str) -> list[Chunk]:
        """What was acknowledged in the last 10 seconds that the file knows of."""
        acks, end = self._acks.get(org, []), self.at - RETAINED_SECONDS
        before = [number for at, number in acks if at < end][-1:] or [0]
        old = min(*before, *(number for at, number in acks if at >= end), self._acked(org))
        return [chunk for number, chunk in sorted(self._chunks.get(org, {}).items()) if old < number <= self._acked(org)]

    def outbox(self, outbox: Outbox, now: int) -> dict[str, int]:
        """Fill an outbox with it; how many calls were too old and are dropped, by organisation."""
        lost: dict[str, int] = {}
        for org, sealed in self._sealed.items():
            outbox.know(org, sealed)
        for org in self._chunks:
            pending = [_aged(chunk, now) for chunk in self.pending(org)]
            lost[org] = sum(row.calls for chunk in self.pending(org) if _is_old(chunk, now) for row in chunk.rows)
            retained = [chunk for chunk in self._retained(org) if not _is_old(chunk, now)]
            if pending or retained:
                box = outbox.box(org)
                box.acked = self._acked(org)
                box.confirmed = None if box.confirmed is None else 0
                box.restore(pending, retained)
        for org, calls in self.dropped.items():
            outbox.box(org).dropped += calls
        return lost

    @property
    def holds_calls(self) -> bool:
        """False when all of it is known to be in Redis."""
        return bool(self.cells or self.dropped or any(self.pending(org) for org in self._chunks))

    @property
    def calls(self) -> int:
        """How many calls of organisations are not known to be in Redis."""
        chunks = sum(row.calls for org in self._chunks if org != OPERATOR for chunk in self.pending(org) for row in chunk.rows)
        return chunks + sum(cell.calls for cell in self.cells.values())


def _is_old(chunk: Chunk, now: int) -> bool:
    return chunk.sealed_at <= now - SENT_SECONDS


def _aged(chunk: Chunk, now: int) -> Chunk:
    if not _is_old(chunk, now):
        return chunk
    return chunk._replace(rows=[], dropped=chunk.dropped + sum(row.calls for row in chunk.rows))


def add(cells: dict[CellKey, Cell], key: CellKey, cell: Cell) -> None:
    """Add a cell to others."""
    mine = cells.setdefault(key, cell)
    if mine is not cell:
        mine.merge(cell)


class _Fit:
    """Puts tags and counters where these settings expect them: the next version of an application may have others."""

    def __init__(self, head: Head, settings: Settings) -> None:
        self._same_tags = head.dimensions == settings.dimensions
        self._same_counts = head.counters == settings.counters
        self._tags = [(_place(name, head.dimensions), settings.untagged.get(name, NONE)) for name in settings.dimensions]
        self._counts = [_place(name, head.counters) for name in settings.counters]

    def tags(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        if self._same_tags:
            return tags
        return tuple(tags[place] if place is not None else untagged for place, untagged in self._tags)

    def counts(self, counts: Sequence[int]) -> tuple[int, ...]:
        if self._same_counts:
            return tuple(counts)
        return tuple(counts[place] if place is not None else 0 for place in self._counts)

    def row(self, row: Row) -> Row:
        row.tags, row.counts = self.tags(row.tags), self.counts(row.counts)
        return row


def _place(name: str, names: tuple[str, ...]) -> int | None:
    return names.index(name) if name in names else None


class Spool:
    """A directory of such files, for the processes of one machine that count into one Redis.

    Raises:
        ConfigurationError: this system has no `flock`.
    """

    def __init__(self, directory: Path, settings: Settings, *, limit: int, clock: Callable[[], float]) -> None:
        if sys.platform == "win32":
            raise ConfigurationError("spool and journal need flock, which Windows does not have")
        self.directory = directory
        self.limit = limit
        self._settings = settings
        self._clock = clock
        self._open: set[LockedFile] = set()

    def forget(self) -> None:
        """In the child of a fork: close what is the parent's."""
        for file in list(self._open):
            file.close()
        self._open.clear()

    def now(self) -> int:
        """Seconds since the epoch."""
        return int(self._clock())

    def create(self, worker: str, entries: Iterable[Entry]) -> LockedFile:
        """A worker's file with these entries, in place of the one that it has."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = Head(self._settings.namespace, worker, self._settings.dimensions, self._settings.counters)
        path = self.directory / f"{self._settings.namespace}.{worker}{SUFFIX}"
        file = LockedFile.create(path, map(_encode, (head, *entries)))
        self._open.add(file)
        return file

    def claim(self, path: Path) -> LockedFile | None:
        """A file of a worker that is no more; None where another has it."""
        file = LockedFile.claim(path)
        if file is not None:
            self._open.add(file)
        return file

    def read(self, file: LockedFile) -> Left | None:
        """What a file says; None where it says nothing of ours."""
        records = file.records()
        with suppress(msgspec.MsgspecError):
            head = _decode_head(next(records, b""))
            if head.namespace == self._settings.namespace:
                return self._read(head, records)
        return None

    def _read(self, head: Head, records: Iterator[bytes]) -> Left:
        left = Left(head, self._settings)
        for record in records:
            left.take(_decode(record))
        return left

    def close(self, file: LockedFile) -> None:
        """Leave a file to whoever comes next."""
        self._open.discard(file)
        file.close()

    def remove(self, file: LockedFile) -> None:
        """Delete a file of which everything is in Redis."""
        self._open.discard(file)
        file.remove()

    def paths(self) -> list[Path]:
        """Every file of this namespace, whoever has it."""
        return self._found("")

    def sweep(self) -> None:
        """Delete what processes left that died while they wrote a file anew."""
        for path in self._found(UNFINISHED):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - UNFINISHED_SECONDS:
                    path.unlink()

    def _found(self, ending: str) -> list[Path]:
        try:
            return sorted(self.directory.glob(f"{self._settings.namespace}.{'[0-9a-f]' * 32}{SUFFIX}{ending}"))
        except OSError:
            return []

    def room(self) -> int:
        """How many more bytes may be put into the directory."""
        used = 0
        for path in self.paths():
            with suppress(OSError):
                used += path.stat().st_size
        return self.limit - used


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

    def note(self, chunks: list[Chunk], cells: Mapping[CellKey, Cell], dropped: Mapping[str, int], *, replaces: bool) -> None:
        """Have this on disk."""
        entry = Entry(self._spool.now(), replaces, chunks, loose(cells), dict(dropped))
        if self._file is None:
            self._create([entry])
        else:
            self._append(entry, durable=True)

    def note_acks(self, outbox: Outbox) -> None:
        """Write down what was acknowledged since. Not worth waiting for the disk: a chunk may be sent twice."""
        acked = {box.org: box.acked for box in outbox.boxes() if self._acked.get(box.org, 0) != box.acked}
        if acked and self._file is not None:
            self._append(Entry(self._spool.now(), acked=acked), durable=False)
            self._acked.update(acked)

    def rewrite(self, outbox: Outbox, cells: Mapping[CellKey, Cell]) -> None:
        """Write all there is to say anew, and nothing else."""
        self._create(_entries(outbox, cells, self._spool.now()))

    def leave(self, outbox: Outbox, cells: Mapping[CellKey, Cell]) -> int:
        """Write all there is to say and leave it to whoever comes next; how many calls the directory had no room for.

        Those are written down as dropped.
        """
        room = _Room(self._spool.room() + (self._file.size if self._file else 0))
        self._create(room.fitting(_entries(outbox, cells, self._spool.now())))
        self.release()
        return room.lost

    def _create(self, entries: Iterable[Entry]) -> None:
        self.broken = True
        before, self._file = self._file, self._spool.create(self._worker, entries)
        self.broken = False
        self._written = self._file.size
        self._acked = {}
        if before is not None:
            self._spool.close(before)

    def _append(self, entry: Entry, *, durable: bool) -> None:
        assert self._file is not None, "nothing was noted yet"
        try:
            self._file.append(_encode(entry), durable=durable)
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

    def fitting(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        dropped: dict[str, int] = {}
        for entry in entries:
            size = len(_encode(entry))
            if size <= self._left or not (entry.chunks or entry.cells):
                self._left -= size
                yield entry
                continue
            for org, calls in _calls(entry):
                dropped[org] = dropped.get(org, 0) + calls
        if dropped:
            self.lost = sum(calls for org, calls in dropped.items() if org != OPERATOR)
            yield Entry(0, dropped=dropped)


def _calls(entry: Entry) -> Iterator[tuple[str, int]]:
    for chunk in entry.chunks:
        yield chunk.org, chunk.dropped + sum(row.calls for row in chunk.rows)
    for cell in entry.cells:
        yield organisation(cell.caller), cell.calls
        yield OPERATOR, cell.calls
    yield from entry.dropped.items()


def _entries(outbox: Outbox, cells: Mapping[CellKey, Cell], now: int) -> Iterator[Entry]:
    """All that an outbox holds. Nothing in it may wait for a number but drops."""
    boxes = outbox.boxes()
    dropped = {box.org: box.dropped for box in boxes if box.dropped}
    retained = [chunk for box in boxes for _, chunk in box.retained]
    numbers = outbox.numbers()
    yield Entry(now, chunks=retained, sealed=numbers)
    yield Entry(now, acked={**numbers, **{box.org: box.acked for box in boxes}})
    pending = [chunk for box in boxes for chunk in box.pending]
    for begin in range(0, len(pending), CHUNKS_A_RECORD):
        yield Entry(now, chunks=pending[begin : begin + CHUNKS_A_RECORD])
    yield Entry(now, cells=loose(cells), dropped=dropped)
