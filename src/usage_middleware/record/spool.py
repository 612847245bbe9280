"""The spool: calls on disk that Redis has not acknowledged, in one file for each worker. Each call is counted once.

A worker's file holds what the worker has in memory: chunks with their numbers, the last number of each organisation, the last
number that Redis acknowledged, and calls without a number (the key directory or Redis did not answer). A process that takes
over the file acts as that worker: it sends the chunks under the worker's name and numbers, and the script in Redis applies no
number twice. So a sender may die at any moment, any number of times.

- A file has one owner. A living worker keeps its file locked (`flock`). When the process dies, the kernel releases the lock,
  and one of the processes that want the file gets it. A worker that ends normally deletes its file, then its marks in Redis.
- A chunk is on disk before it is sent. So no number that Redis may know is ever given to other calls. New numbers follow the
  last one in the file.
- One record both adds numbered chunks and removes the calls without a number that went into them. If the record is whole, the
  calls have numbers; if it is torn, they have none and were not sent. Credentials are resolved before it is written.
- Redis keeps a worker's mark for 8 days after its last chunk. A chunk older than 7 days is not sent, since nobody could tell
  whether it was counted already: its calls are counted as dropped. Calls without a number don't expire.
- Chunks that were acknowledged within the last 10 seconds stay in the file, in case Redis loses them in a crash.

A file holds no API keys. Callers are names, or the BLAKE2b digest of a credential without the pepper. Somebody who guesses a
credential could recognise its digest, so the directory has mode 700 and the files have mode 600.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import DeliveryOptions, Settings
from usage_middleware.record.locked_file import UNFINISHED, LockedFile
from usage_middleware.record.spool_format import (
    UNREADABLE,
    SpoolHeader,
    SpoolRecord,
    SpoolState,
    decode,
    decode_header,
    encode,
    encode_header,
)
from usage_middleware.store.private_files import make_private, open_private

SUFFIX = ".calls"
#: The end of the name under which a damaged file is kept.
DAMAGED = ".damaged"
#: So many of them are kept, the latest ones.
MOST_DAMAGED = 20
#: How much is written to find out whether there is room.
TRIED_BYTES = 4096
#: The end of that file's name.
_TRIED = ".try"
#: A file that is still unfinished after this time was abandoned, seconds.
UNFINISHED_SECONDS = 3600


class Spool:
    """A directory of these files, for the processes of one machine that write to one Redis.

    Attributes:
        directory: where the files are.

    Raises:
        ConfigurationError: this system has no `flock`.
    """

    def __init__(self, options: DeliveryOptions, settings: Settings) -> None:
        if sys.platform == "win32":
            raise ConfigurationError("spool and journal need flock, which Windows does not have")
        assert options.spool is not None
        self.directory = options.spool
        self._options = options
        self._settings = settings
        self._open: set[LockedFile] = set()

    def after_fork_in_child(self) -> None:
        """Close our copies of the parent's files, which does not release its locks."""
        for file in list(self._open):
            file.close()
        self._open.clear()

    def why_unwritable(self) -> str:
        """Try to write to the directory, and to lock a file there; why that is not possible, empty if it is."""
        path = self.directory / f"{self._settings.namespace}.{os.getpid()}{_TRIED}"
        try:
            make_private(self.directory, _is_ours)
            path.unlink(missing_ok=True)
            os.close(open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            path.write_bytes(bytes(TRIED_BYTES))
            file = LockedFile.claim(path)
            if file is not None:
                file.close()
        except OSError as error:
            return f"{self.directory}: {error.strerror or error}"
        finally:
            with suppress(OSError):
                path.unlink()
        return ""

    def now(self) -> int:
        """Seconds since the epoch."""
        return int(self._options.clock())

    def create(self, worker: str, entries: Iterable[SpoolRecord]) -> LockedFile:
        """Write a worker's file, in place of the one it has."""
        make_private(self.directory, _is_ours)
        head = SpoolHeader(self._settings.namespace, worker, self._settings.dimensions, self._settings.counters)
        path = self.directory / f"{self._settings.namespace}.{worker}{SUFFIX}"
        file = LockedFile.create(path, (encode_header(head), *map(encode, entries)))
        self._open.add(file)
        return file

    def claim(self, path: Path) -> LockedFile | None:
        """Take over the file of a worker that has ended; None if another process has it."""
        file = LockedFile.claim(path)
        if file is not None:
            self._open.add(file)
        return file

    def read(self, file: LockedFile) -> SpoolState | None:
        """Read a file; None if it can't be read at all: it is damaged, or another version has written it."""
        records = file.records(self._options.backlog_bytes)
        try:
            head = decode_header(next(records, None) or b"")
        except UNREADABLE:
            return None
        return self._read(head, records) if head.namespace == self._settings.namespace else None

    def _read(self, head: SpoolHeader, records: Iterator[bytes | None]) -> SpoolState:
        left = SpoolState(head, self._settings)
        for record in records:
            try:
                entry = None if record is None else decode(record)
                if entry is not None:
                    left.take(entry)
            except UNREADABLE:
                entry = None
            if entry is None:
                left.skip()
        return left

    def put_aside(self, file: LockedFile, *, whole: bool) -> None:
        """Keep a damaged file under another name, for people. `whole`: nothing of it can be read, and its own name goes.

        Raises:
            OSError: the disk fails.
        """
        aside = file.path.with_name(file.path.name + DAMAGED)
        with suppress(OSError):
            aside.unlink(missing_ok=True)
            for old in sorted(self.damaged(), key=os.path.getmtime)[: -MOST_DAMAGED + 1]:
                old.unlink()
            os.link(file.path, aside)
        if whole:
            file.path.unlink()

    def damaged(self) -> list[Path]:
        """The damaged files that were put aside."""
        return self._files(DAMAGED)

    def close(self, file: LockedFile) -> None:
        """Release a file, for the next process."""
        self._open.discard(file)
        file.close()

    def remove(self, file: LockedFile) -> None:
        """Delete a file when everything in it is in Redis."""
        self._open.discard(file)
        file.remove()

    def paths(self) -> list[Path]:
        """Every file of this namespace, including those of living processes."""
        return self._files("")

    def sweep(self) -> None:
        """Delete half-written files of processes that died while they wrote them."""
        for path in self._files(UNFINISHED):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - UNFINISHED_SECONDS:
                    path.unlink()

    def _files(self, ending: str) -> list[Path]:
        try:
            return sorted(self.directory.glob(f"{self._settings.namespace}.{'[0-9a-f]' * 32}{SUFFIX}{ending}"))
        except OSError:
            return []

    def room(self) -> int:
        """How many more bytes may be written to the directory."""
        used = 0
        for path in self.paths():
            with suppress(OSError):
                used += path.stat().st_size
        return self._options.backlog_bytes - used


def _is_ours(name: str) -> bool:
    return name.endswith((SUFFIX, SUFFIX + UNFINISHED, SUFFIX + DAMAGED, _TRIED))
