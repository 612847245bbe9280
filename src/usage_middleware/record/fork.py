"""Forks and the end of a process: what every recorder of it is told."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import weakref
from multiprocessing.util import Finalize
from typing import Protocol


class Process(Protocol):
    """What has to know of forks and of the end. Kept weakly."""

    def before_fork(self) -> bool:
        """Come to rest; True if `after_fork_in_parent` is to be called."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Begin anew: what the parent holds is the parent's, locks included."""

    def close(self) -> object:
        """The process ends."""


_live: weakref.WeakSet[Process] = weakref.WeakSet()
_resting: list[Process] = []


def register(recorder: Process) -> None:
    """Tell this recorder of forks and of the end of the process."""
    _live.add(recorder)


def close_with_this_child() -> None:
    """A child of `multiprocessing` ends without the handlers of `atexit`, but not without its own."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, _close, exitpriority=0)


def _before_fork() -> None:
    _resting.extend(recorder for recorder in list(_live) if recorder.before_fork())


def _after_fork_in_parent() -> None:
    while _resting:
        _resting.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    _resting.clear()
    for recorder in list(_live):
        recorder.after_fork_in_child()


def _close() -> None:
    for recorder in list(_live):
        recorder.close()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
