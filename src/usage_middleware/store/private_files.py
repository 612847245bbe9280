"""Makes directories and files the owner's alone, whatever the umask is and whatever was there before."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: A new file system has it.
_NOT_COUNTED = frozenset({"lost+found"})


def make_private(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Make a directory, or one that is there, its owner's alone (mode 700).

    One that others may read, but not write to, keeps its mode if it also holds other files than ours. Then the modes of our
    files have to keep them to us.

    Args:
        folder: the directory.
        is_ours: whether a name in it is one of ours.

    Raises:
        OSError: it can't be made, or used.
        PermissionError: it belongs to somebody else; it is shared with others, who may write to it; or one of our names in it
            belongs to somebody else.
    """
    _make(folder)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(f"it belongs to {_user(found.st_uid)}; it must belong to {_user(os.geteuid())}, who runs this")
    if found.st_mode & 0o700 != 0o700:
        folder.chmod(stat.S_IMODE(found.st_mode) | 0o700)
    names = os.listdir(folder)
    _require_ours(folder, filter(is_ours, names))
    if not found.st_mode & 0o077:
        return
    if not found.st_mode & stat.S_ISVTX and all(is_ours(name) or name in _NOT_COUNTED for name in names):
        folder.chmod(0o700)
    elif found.st_mode & 0o022:
        raise PermissionError("others may write to it, and it holds other files; use a directory of its own, mode 700")


def keep_private(path: Path) -> None:
    """Take the rights of others from one of our files, or from a directory and all that is in it. Does nothing to a link."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if mode & 0o077 and not stat.S_ISLNK(mode):
            path.chmod(0o600 if stat.S_ISREG(mode) else 0o700)
        if stat.S_ISDIR(mode):
            for inside in path.iterdir():
                keep_private(inside)


def open_private(path: Path, flags: int) -> int:
    """Open one of our files, and take the rights of others from it; where it is new, it is readable for its owner alone.

    Raises:
        OSError: it can't be opened.
        PermissionError: it belongs to somebody else, or is no file.
    """
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        found = os.fstat(file)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            raise PermissionError(f"{path} is no file of {_user(os.geteuid())}, who runs this; remove it")
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(file, 0o600)
    except BaseException:
        os.close(file)
        raise
    return file


def _make(folder: Path) -> None:
    """Make a directory and those above it. Its owner may use each, even if the umask says that nobody may."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)


def _require_ours(folder: Path, names: filter[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            owner = (folder / name).lstat().st_uid
            if owner != os.geteuid():
                raise PermissionError(f"{name} in it belongs to {_user(owner)}; remove it")


def _user(uid: int) -> str:
    return f"user {uid}" if uid else "root"
