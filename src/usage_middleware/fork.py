"""Forks, and the end of a process: what each part of this package does then, in one order.

Before a fork
    1. Recorders pause. A flush may hold a lock of the import system, and the child would wait for it forever.
    2. The fork waits until no thread is importing redis-py, for the same reason.

After it, in the parent
    3. The recorders that paused resume.

After it, in the child, where everything belongs to the parent
    4. Embedded servers close their copies of the parent's lock files.
    5. Engines put the parent's connections aside.
    6. Recorders start again as new workers, with nothing recorded.

At the end of the process
    7. Recorders deliver what is left.
    8. Embedded servers are left. The last process to leave stops the server.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.util import Finalize
from threading import RLock
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    """What a child gets from its parent and must not use."""

    def after_fork_in_child(self) -> None:
        """Start again with nothing: connections, files and locks are the parent's."""


class Recording(Inherited, Protocol):
    """What also runs in a thread, and has something to deliver."""

    def before_fork(self) -> bool:
        """Pause. True if `after_fork_in_parent` has to be called."""

    def after_fork_in_parent(self) -> None:
        """Resume."""

    def end(self) -> object:
        """Deliver what is left, and what other threads finish meanwhile. What they finish later is counted as lost."""


#: None of these keeps a part alive.
servers: WeakSet[Inherited] = WeakSet()
engines: WeakSet[Inherited] = WeakSet()
recorders: WeakSet[Recording] = WeakSet()

#: Held by a thread while it imports redis-py.
importing = RLock()

_paused: list[Recording] = []


def _before_fork() -> None:
    _paused.extend(recorder for recorder in list(recorders) if recorder.before_fork())
    importing.acquire()


def _after_fork_in_parent() -> None:
    importing.release()
    while _paused:
        _paused.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    global importing
    importing = RLock()
    _paused.clear()
    for part in (*servers, *engines, *recorders):
        part.after_fork_in_child()


def close_at_exit_of_this_child() -> None:
    """Close recorders at the end of a child of `multiprocessing`, which does not run the handlers of `atexit`."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, _close_recorders, exitpriority=0)


def leave_at_exit(leave: Callable[[], object]) -> Finalize:
    """Call `leave` at the end of the process, after recorders were closed; in a child of `multiprocessing` too."""
    # `multiprocessing.util` was imported above, so its handler runs after `_close_recorders`, the lowest priority last.
    return Finalize(None, leave, exitpriority=-100)


def _close_recorders() -> None:
    for recorder in list(recorders):
        recorder.end()


atexit.register(_close_recorders)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
