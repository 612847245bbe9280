"""Whether a socket has to be waited for."""

from __future__ import annotations

import select
from typing import Any

#: Not everywhere.
_POLL = getattr(select, "poll", None)


def is_ready(sock: Any, *, writes: bool) -> bool:
    """Whether a write to a socket, plain or TLS, or a read from it, need not wait. False where that can't be told."""
    pending = getattr(sock, "pending", None)
    if not writes and pending is not None and pending():
        return True
    if _POLL is None:
        return False
    poll = _POLL()
    try:
        poll.register(sock, select.POLLOUT if writes else select.POLLIN)
    except ValueError:
        # Another thread has closed it. Who reads or writes next is told so, by an error that is known.
        return True
    return bool(poll.poll(0))
