"""A server of a few lines, which handles no signal: `python plain.py PORT`."""

from __future__ import annotations

import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

from tests.faults.served import wsgi


class Silent(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), wsgi, handler_class=Silent).serve_forever()
