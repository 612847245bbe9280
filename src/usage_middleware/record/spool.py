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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import Settings
from usage_middleware.record.locked_file import UNFINISHED, LockedFile
from usage_middleware.record.spool_format import (
    SpoolHeader,
    SpoolRecord,
    SpoolState,
    decode,
    decode_header,
    encode,
    encode_header,
)

SUFFIX = ".calls"
#: To write a file takes no hour.
UNFINISHED_SECONDS = 3600


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

    def create(self, worker: str, entries: Iterable[SpoolRecord]) -> LockedFile:
        """A worker's file with these entries, in place of the one that it has."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = SpoolHeader(self._settings.namespace, worker, self._settings.dimensions, self._settings.counters)
        path = self.directory / f"{self._settings.namespace}.{worker}{SUFFIX}"
        file = LockedFile.create(path, (encode_header(head), *map(encode, entries)))
        self._open.add(file)
        return file

    def claim(self, path: Path) -> LockedFile | None:
        """A file of a worker that is no more; None where another has it."""
        file = LockedFile.claim(path)
        if file is not None:
            self._open.add(file)
        return file

    def read(self, file: LockedFile) -> SpoolState | None:
        """What a file says; None where it says nothing of ours."""
        records = file.records()
        with suppress(msgspec.MsgspecError):
            head = decode_header(next(records, b""))
            if head.namespace == self._settings.namespace:
                return self._read(head, records)
        return None

    def _read(self, head: SpoolHeader, records: Iterator[bytes]) -> SpoolState:
        left = SpoolState(head, self._settings)
        for record in records:
            left.take(decode(record))
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
