"""SIGTERM and SIGINT: the first ends a process in order, so that it delivers what is left; neither interrupts that."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

#: How a process ends that SIGTERM ended, as a shell sees it.
TERMINATED = 128 + signal.SIGTERM

#: So long an event loop has to come to an end that SIGTERM asked for, seconds. Then SIGTERM raises in the midst of it.
LOOP_SECONDS = 3.0

#: What delivers all that is left, in the main thread. `fork` adds it.
delivering: list[Callable[[], object]] = []

#: When SIGTERM asked an event loop to end, on `time.monotonic`; None if it has not, or the end has begun.
_asked: float | None = None
#: In a child: whether SIGTERM raised in its parent.
_raised_before_fork = False
#: The handlers that `held` has replaced.
_replaced: list[dict[signal.Signals, Any]] = []
#: The signals that the thread that forks had blocked before.
_masks: list[Any] = []


def exit_on_sigterm() -> bool:
    """Have SIGTERM raise `SystemExit(143)` in the main thread, where it would end the process without running `atexit`.

    Where an event loop runs, everything is delivered between two of its callbacks, and the default action ends the process: an
    exception would cancel the requests that are being answered, and their clients would get a 500.

    Only the default action is replaced, and only from the main thread. uWSGI has handlers of its own, which Python does not
    see. True if SIGTERM raises now.
    """
    if threading.current_thread() is threading.main_thread() and "uwsgi" not in sys.modules:
        # Raised in an interpreter that is not the main one.
        with suppress(ValueError):
            if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                signal.signal(signal.SIGTERM, _leave)
    return signal.getsignal(signal.SIGTERM) is _leave


def exit_on_sigterm_again() -> None:
    """In a forked child that has something to deliver: as its parent did, if this is the main thread."""
    if _raised_before_fork:
        exit_on_sigterm()


def leave_to_the_main_thread() -> None:
    """Under uWSGI, take no signals that end the process in this thread.

    Its handlers end the process in whichever thread they run, even if another is ending it in order.
    """
    if "uwsgi" in sys.modules:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})


def _leave(number: int, frame: FrameType | None) -> None:
    # No lock is taken: the code that is interrupted may hold it.
    global _asked
    if not _is_overdue() and _soon(_end):
        _asked = _asked or time.monotonic()
        return
    _asked = None
    raise SystemExit(TERMINATED)


def _soon(act: Callable[[], object]) -> bool:
    """Have the event loop of this thread call something between two callbacks. False if none runs."""
    asyncio: Any = sys.modules.get("asyncio")
    loop = asyncio and asyncio._get_running_loop()
    if loop is None:
        return False
    loop.call_soon_threadsafe(act)
    return True


def _end() -> NoReturn:
    global _asked
    _asked = None
    try:
        for deliver in delivering:
            deliver()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    # The first process of a container has no default actions.
    raise SystemExit(TERMINATED)


def _is_overdue() -> bool:
    return _asked is not None and time.monotonic() - _asked > LOOP_SECONDS


def insist() -> None:
    """In another thread: have SIGTERM raise in the main thread, if its loop was asked to end and does not come to it."""
    main = threading.main_thread().ident
    if _is_overdue() and main is not None:
        signal.pthread_kill(main, signal.SIGTERM)


def before_fork() -> None:
    """Have SIGTERM wait in this thread, if it raises or is held: Python would forget one that comes before the child begins."""
    waits = bool(_replaced) or signal.getsignal(signal.SIGTERM) is _leave
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if waits else None)


def after_fork_in_parent() -> None:
    """Take SIGTERM again."""
    mask = _masks.pop() if _masks else None  # uWSGI forks without a word, and tells the child afterwards.
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def after_fork_in_child() -> None:
    """End at once, as a child of a pool has to, until something is recorded here."""
    global _asked, _raised_before_fork
    _asked = None
    for handlers in (*_replaced,):
        _restore(handlers)
    if signal.getsignal(signal.SIGTERM) is _leave:
        _raised_before_fork = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    after_fork_in_parent()


@contextmanager
def held(*, is_ending: bool = False) -> Iterator[None]:
    """Inside it, SIGTERM and SIGINT wait, if they would end the process. Does nothing outside the main thread.

    Some servers signal twice, the second time while calls are being saved. With `is_ending` the process ends anyway, and a
    SIGTERM that would only raise in the midst of that is forgotten.
    """
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}
    _replaced.append(before)
    # Raises ValueError outside the main thread of the main interpreter.
    with suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _leave):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
    idle = {number for number, handler in before.items() if is_ending and handler is _leave}
    try:
        yield
    finally:
        _restore(before)
        for found in dict.fromkeys(came):
            if found not in idle:
                signal.raise_signal(found)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    """Put handlers back that `held` has replaced. In the child of a fork this is done once, whoever comes first."""
    while handlers:
        signal.signal(*handlers.popitem())
    _replaced[:] = [others for others in _replaced if others is not handlers]
