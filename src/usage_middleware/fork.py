"""Forks, and the end of a process: what each part of this package does then, in one order.

Before a fork
    1. Threads that wait for Redis stay where they are until the fork is over, even if the reply comes. Nobody waits for them.
    2. Recorders pause. A flush that is not waiting may hold a lock of the import system; the child would wait for it forever.
    3. The fork waits until no thread is importing redis-py, for the same reason.
    4. SIGTERM waits. Python would forget one that comes to the child before it has begun.

After it, in the parent
    5. The threads that stayed go on, and the recorders that paused resume.

After it, in the child, where everything belongs to the parent
    6. Embedded servers close their copies of the parent's lock files.
    7. Engines put the parent's connections aside.
    8. Recorders start again as new workers, with nothing recorded. SIGTERM has its default action until one records.

At the end of the process, and when SIGTERM ends it in an event loop
    9. Recorders deliver what is left. A signal that would end the process waits for them (`signals.held`).
   10. Embedded servers are left. The last process to leave stops the server.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.util import Finalize
from threading import RLock
from typing import Protocol
from weakref import WeakSet

from usage_middleware import signals


class Inherited(Protocol):
    """What a child gets from its parent and must not use."""

    def after_fork_in_child(self) -> None:
        """Start again with nothing: connections, files and locks are the parent's."""


class Shared(Inherited, Protocol):
    """What processes use together."""

    def leave(self) -> None:
        """Give up this process's share."""


class Recording(Inherited, Protocol):
    """What also runs in a thread, and has something to deliver."""

    def before_fork(self) -> bool:
        """Pause. True if `after_fork_in_parent` has to be called."""

    def after_fork_in_parent(self) -> None:
        """Resume."""

    def cut_off(self) -> object:
        """Take what was answered, and what an event loop will not finish any more."""

    def end(self) -> object:
        """Deliver what is left, and what other threads finish meanwhile. What they finish later is counted as lost."""


#: None of these keeps a part alive.
servers: WeakSet[Shared] = WeakSet()
engines: WeakSet[Inherited] = WeakSet()
recorders: WeakSet[Recording] = WeakSet()

#: Held by a thread while it imports redis-py.
importing = RLock()

#: How often a recorder that is interrupted at the end begins again.
_TIMES_ENDED = 3
_paused: list[Recording] = []
#: The threads that wait for Redis, and an entry for each fork under way. No lock: greenlets may switch while it is held.
_waiting: set[int] = set()
_forks: list[None] = []


class _Waiting:
    """Inside it, this thread waits for Redis, and a fork does not wait for it. Nothing is imported there."""

    def __enter__(self) -> None:
        _waiting.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        _waiting.discard(me)
        # In this order: who forks looks at the threads after it has entered its fork.
        while _forks:
            _waiting.add(me)
            time.sleep(0.001)
            _waiting.discard(me)


#: Without state, and so the same for every thread.
waiting = _Waiting()


def is_waiting(thread: int) -> bool:
    """Whether a thread waits for Redis, by its `threading.get_ident`."""
    return thread in _waiting


def _before_fork() -> None:
    _forks.append(None)
    _paused.extend(recorder for recorder in list(recorders) if recorder.before_fork())
    importing.acquire()
    signals.before_fork()


def _after_fork_in_parent() -> None:
    signals.after_fork_in_parent()
    importing.release()
    while _paused:
        _paused.pop().after_fork_in_parent()
    _forks.pop()


def _after_fork_in_child() -> None:
    global importing
    importing = RLock()
    _forks.clear()
    _waiting.clear()
    _paused.clear()
    for part in (*servers, *engines, *recorders):
        part.after_fork_in_child()
    signals.after_fork_in_child()


def close_at_exit_of_this_child() -> None:
    """Close recorders at the end of a child of `multiprocessing`, which does not run the handlers of `atexit`."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, _close_recorders, exitpriority=0)


def leave_at_exit(leave: Callable[[], object]) -> Finalize:
    """Call `leave` at the end of the process, after recorders were closed; in a child of `multiprocessing` too."""
    # `multiprocessing.util` was imported above, so its handler runs after `_close_recorders`, the lowest priority last.
    return Finalize(None, leave, exitpriority=-100)


def _close_recorders() -> None:
    # The process ends already, as a signal that came meanwhile asks.
    with suppress(SystemExit, KeyboardInterrupt), signals.held():
        for recorder in list(recorders):
            _end(recorder)


def _end(recorder: Recording) -> None:
    """Under gevent, gunicorn raises what a second signal asks for in whatever waits: also here. Then it begins again."""
    for _ in range(_TIMES_ENDED):
        with suppress(SystemExit, KeyboardInterrupt):
            recorder.end()
            return


def _end_in_loop() -> None:
    for recorder in list(recorders):
        recorder.cut_off()
    _close_recorders()
    for server in list(servers):
        server.leave()


def _close_with_uwsgi() -> None:
    """Close recorders also where uWSGI ends a worker without Python's own `atexit` (`skip-atexit-teardown`)."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        others = getattr(uwsgi, "atexit", None)

        def leave() -> None:
            _close_recorders()
            if others is not None:
                others()

        uwsgi.atexit = leave  # type: ignore[attr-defined]


signals.delivering.append(_end_in_loop)
atexit.register(_close_recorders)
_close_with_uwsgi()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
