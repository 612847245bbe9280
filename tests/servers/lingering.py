"""The application of these tests, whose worker has something to do for a moment after it has answered `/linger`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from werkzeug.wsgi import ClosingIterator

from tests.faults.served import wsgi as served


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    """A response; the call is counted before the last of what is done when it is closed."""
    body = served(environ, start_response)
    return ClosingIterator(body, lambda: time.sleep(0.5)) if environ["PATH_INFO"] == "/linger" else body
