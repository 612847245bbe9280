"""A file of checksummed records with one owner: the kernel releases its lock when the owner's process dies."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self
from zlib import crc32

from usage_middleware.store.private_files import open_private

if sys.platform != "win32":
    import fcntl

MAGIC = b"usage-middleware calls 1\n"
#: The end of a file's name while it is being written.
UNFINISHED = ".new"
_FRAME = struct.Struct("<II")
#: How long a record may be, bytes.
MOST_RECORD = 64_000_000
#: So much of a file is read at once, bytes.
_PIECE = 1_000_000


class LockedFile:
    """One open and locked file. Methods raise OSError if the disk fails.

    A record is its length, its CRC-32 and its bytes. If a process or a machine dies, the last record may be torn; readers
    stop before it. One that is damaged in the middle is left out. The directory must be on a local disk.

    Attributes:
        path: where the file is.
        size: how many bytes of it are whole records.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.size = 0
        self._file = file

    @classmethod
    def create(cls, path: Path, records: Iterable[bytes]) -> Self:
        """Write a new file, have it on disk, then give it its name, in place of the file of that name."""
        unfinished = path.with_name(path.name + UNFINISHED)
        file = open_private(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
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
        # The file is in its place now: whatever fails from here on, the lock must stay.
        with suppress(OSError):
            sync_directory(path.parent)
        return made

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Open and lock a file; None if another process has it, or it is gone."""
        try:
            file = open_private(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            _lock(file)
            # The last owner may have removed it, or put another in its place.
            if os.path.samestat(os.fstat(file), path.stat()):
                return cls(path, file)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(file)
        return None

    def records(self, most: int = MOST_RECORD) -> Iterator[bytes | None]:
        """The records, one after the other, up to the one that is torn. What comes after them is overwritten.

        Args:
            most: how long a record may be, bytes. Memory is taken for no more.

        Yields:
            None for a record that is damaged, where another follows it, and for one that is too long.
        """
        if not self.is_ours:
            return
        self.size = begin = len(MAGIC)
        damaged = 0
        while frame := self._frame(begin):
            length, checksum = frame
            begin += _FRAME.size + length
            if not self._is_whole(begin - length, length, checksum):
                damaged += 1
                continue
            yield from [None] * damaged
            self.size, damaged = begin, 0
            yield os.pread(self._file, length, begin - length) if length <= most else None

    @property
    def is_ours(self) -> bool:
        """Whether it begins as these files do."""
        return os.pread(self._file, len(MAGIC), 0) == MAGIC

    def _frame(self, at: int) -> tuple[int, int] | None:
        """Length and checksum of the record at a place, None where the file ends before it does."""
        raw = os.pread(self._file, _FRAME.size, at)
        if len(raw) < _FRAME.size:
            return None
        length, checksum = _FRAME.unpack(raw)
        return (length, checksum) if 0 < length <= os.fstat(self._file).st_size - at - _FRAME.size else None

    def _is_whole(self, begin: int, length: int, checksum: int) -> bool:
        found = 0
        for at in range(begin, begin + length, _PIECE):
            found = crc32(os.pread(self._file, min(_PIECE, begin + length - at), at), found)
        return found == checksum

    @property
    def is_gone(self) -> bool:
        """True if somebody has deleted the file: what is written to it is lost."""
        return os.fstat(self._file).st_nlink == 0

    def append(self, record: bytes, *, durable: bool) -> None:
        """Add a record. A durable one survives a crash of the machine, not only of the process."""
        self._write(_framed(record))
        if durable:
            _sync(self._file)

    def _write(self, content: bytes) -> None:
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(self._file, content[done:], self.size + done)
        except OSError:
            # A torn record would hide all that follow it.
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(content)

    def remove(self) -> None:
        """Delete the file, then close it."""
        try:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        finally:
            self.close()

    def close(self) -> None:
        """Close it, which releases the lock. In the child of a fork only the copy is closed: the parent keeps its lock."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def sync_directory(path: Path) -> None:
    """Make sure that new and removed names in a directory survive a crash of the machine."""
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
