"""A file of checksummed records that one process at a time has: the kernel releases its lock when that process dies."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self
from zlib import crc32

if sys.platform != "win32":
    import fcntl

MAGIC = b"usage-middleware calls 1\n"
#: How a file is called while it is written anew.
UNFINISHED = ".new"
_FRAME = struct.Struct("<II")


class LockedFile:
    """One file, open and locked. Every method raises OSError where the disk does not do its part.

    A record is its length, its CRC-32 and its bytes. A process or a machine that dies may leave the last one torn: readers
    stop before it. The directory must be on a local disk.

    Attributes:
        path: where it is.
        size: how many bytes of it are whole records.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.size = 0
        self._file = file

    @classmethod
    def create(cls, path: Path, records: Iterable[bytes]) -> Self:
        """A new file with these records, on disk before it has its name; in place of the one of this name."""
        unfinished = path.with_name(path.name + UNFINISHED)
        file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        made = cls(path, file)
        try:
            _lock(file)
            made._write(MAGIC + b"".join(map(_framed, records)))
            os.fsync(file)
            unfinished.rename(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            made.close()
            raise
        # From here on the file is in its place: whatever fails now, the lock must stay.
        with suppress(OSError):
            sync_directory(path.parent)
        return made

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """The file, if nobody else has it; None too where it is gone."""
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            _lock(file)
            # Whoever had it until now may have removed it, or put another in its place.
            if os.path.samestat(os.fstat(file), path.stat()):
                return cls(path, file)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(file)
        return None

    def records(self) -> Iterator[bytes]:
        """Its records up to the first that is not whole; what comes after that is written over."""
        held = os.pread(self._file, os.fstat(self._file).st_size, 0)
        if not held.startswith(MAGIC):
            return
        self.size = len(MAGIC)
        while self.size + _FRAME.size <= len(held):
            length, checksum = _FRAME.unpack_from(held, self.size)
            begin = self.size + _FRAME.size
            record = held[begin : begin + length]
            if not length or len(record) < length or crc32(record) != checksum:
                return
            self.size = begin + length
            yield record

    def append(self, record: bytes, *, durable: bool) -> None:
        """Add a record; durable: it survives the machine's end, not only the process's."""
        self._write(_framed(record))
        if durable:
            _sync(self._file)

    def _write(self, content: bytes) -> None:
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(self._file, content[done:], self.size + done)
        except OSError:
            # A torn record would hide all that follow.
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(content)

    def remove(self) -> None:
        """Delete it for good, then let go of it."""
        try:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it. In the child of a fork that closes the copy alone: the parent keeps its lock."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def sync_directory(path: Path) -> None:
    """Have a new or a removed name survive the machine's end."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _framed(record: bytes) -> bytes:
    return _FRAME.pack(len(record), crc32(record)) + record


def _lock(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


#: macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)
