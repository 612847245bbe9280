"""Does in a thread of its own what takes no time limit, such as asking a name server, and waits only so long."""

from __future__ import annotations

import ipaddress
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: So often the waiting side looks how much time is left, seconds.
STEP = 0.1
#: So many of these threads may be at work at once: each stays until its name server answers or gives up.
MOST_THREADS = 8

_threads: set[Timebox] = set()


def is_name(host: object) -> bool:
    """Whether a name server may have to be asked for a host; not for an IP address."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return isinstance(host, str)
    return False


class Timebox(threading.Thread):
    """One call of a function that returns something with a `close` method."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(name="usage-connect", daemon=True)
        self._act = act
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._is_late = False

    def run(self) -> None:
        """Call it. If nobody waits any more, close what it returns."""
        try:
            self._answers.put((self._act(), None))
        except BaseException as error:
            self._answers.put((None, error))
        if self._is_late:
            self._close()

    def wait(self, left: Callable[[], float]) -> Any:
        """What it returns, or raises.

        Raises:
            TimeoutError: nothing is left of the time, as `left` says in seconds.
        """
        while (seconds := left()) > 0:
            with suppress(queue.Empty):
                found, error = self._answers.get(timeout=min(STEP, seconds))
                if error is not None:
                    raise error
                return found
        self._is_late = True
        self._close()
        raise TimeoutError("connecting takes too long; check the name server")

    def _close(self) -> None:
        with suppress(queue.Empty):
            found, _ = self._answers.get_nowait()
            if found is not None:
                found.close()


def timeboxed(act: Callable[[], Any], left: Callable[[], float]) -> Any:
    """What `act` returns, if it does so while `left` is more than 0.

    Raises:
        TimeoutError: it does not, or too many such calls are under way.
    """
    # Copied first: another thread may add to it. In the child of a fork none of them is alive.
    _threads.difference_update([one for one in tuple(_threads) if not one.is_alive()])
    if len(_threads) >= MOST_THREADS:
        raise TimeoutError("connecting takes too long, and was tried too often; check the name server")
    thread = Timebox(act)
    try:
        thread.start()
    except RuntimeError:  # No new thread while the interpreter shuts down.
        return act()
    _threads.add(thread)
    return thread.wait(left)
