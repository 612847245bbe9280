"""One HTTPS request of a webhook. Imported when the first one is sent: TLS takes its time to load."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple

from usage_middleware.alerts.addresses import resolve

#: How long one request may take, seconds, and how much of an answer is read.
SECONDS, MOST_BYTES = 5.0, 65_536


class Place(NamedTuple):
    """Where requests go.

    Attributes:
        target: path and query.
        allow_private: whether addresses may be other than public.
    """

    host: str
    port: int
    target: str
    allow_private: bool


def trusting(ca: str | None) -> ssl.SSLContext:
    """What checks certificates: by those in a file, or by those of the system.

    Raises:
        OSError: the file can't be read, or holds none.
    """
    return ssl.create_default_context(cafile=ca)


def post(place: Place, tls: ssl.SSLContext, headers: Mapping[str, str], body: bytes) -> int:
    """Send a request; the status of its answer.

    Raises:
        OSError: it could not be sent, or was not answered in time, or not in HTTP.
        Refused: an address is not public.
    """
    ends = time.monotonic() + SECONDS
    with _connected(place, tls, ends) as sock:
        sock.settimeout(_left(ends))
        sock.sendall(_request(place, headers, body))
        return _status(sock, ends)


def _request(place: Place, headers: Mapping[str, str], body: bytes) -> bytes:
    host = f"[{place.host}]" if ":" in place.host else place.host
    named = {
        "Host": host if place.port == 443 else f"{host}:{place.port}",
        **headers,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"POST {place.target} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body


def _connected(place: Place, tls: ssl.SSLContext, ends: float) -> ssl.SSLSocket:
    """A connection to one of the host's addresses, which were asked for once."""
    failed: OSError | None = None
    for address in resolve(place.host, place.port, allow_private=place.allow_private):
        try:
            plain = socket.create_connection((address, place.port), timeout=_left(ends))
        except OSError as error:
            failed = error
            continue
        try:
            plain.settimeout(_left(ends))
            return tls.wrap_socket(plain, server_hostname=place.host)
        except BaseException:
            plain.close()
            raise
    raise failed or OSError(f"{place.host} has no address")


def _status(sock: ssl.SSLSocket, ends: float) -> int:
    """The status of an answer, however slowly it comes. Nothing after its first line is read."""
    found = b""
    while b"\r\n" not in found and len(found) < MOST_BYTES:
        sock.settimeout(_left(ends))
        more = sock.recv(4096)
        if not more:
            break
        found += more
    parts = found.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit() or len(parts[1]) != 3:
        raise OSError(f"the answer is no HTTP: {found[:100]!a}")
    return int(parts[1])


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"it took longer than {SECONDS:g} seconds")
    return left
