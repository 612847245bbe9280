"""A proxy that takes a prefix away before it asks the server behind it, as many do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What belongs to one connection alone.
_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@contextmanager
def proxied(port: int, prefix: str) -> Iterator[int]:
    """The port of a proxy: below the prefix is what is on the other port at its root."""

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            # As proxies do that are told to keep it, the host is the one that the browser asked.
            behind = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            length = int(self.headers.get("content-length", 0))
            behind.request(self.command, self.path.removeprefix(prefix), self.rfile.read(length), dict(self.headers))
            found = behind.getresponse()
            body = found.read()
            self.send_response(found.status)
            for name, value in found.getheaders():
                if name.lower() not in _HOP | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            behind.close()

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()
