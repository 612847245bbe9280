"""Asks the usage API in process, as the organisation that is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from wsgiref.types import WSGIApplication

from usage_middleware import Viewer

ORG = "acme"
#: More than can be asked. It is counted all the same.
LIMIT = "1000000/second"


class Found(NamedTuple):
    """The duration of one request in milliseconds, and that of the slowest Redis command in it."""

    cold: float
    cached: float
    slowest: float
    bytes: int


class Asked(NamedTuple):
    """An answer, and its duration in milliseconds."""

    status: str
    took: float
    body: bytes


def ask(app: WSGIApplication, path: str) -> Asked:
    """Ask the usage API."""
    where, _, query = path.partition("?")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": where, "QUERY_STRING": query, "SCRIPT_NAME": "/usage"}
    statuses: list[str] = []

    def start_response(status: str, _headers: Sequence[tuple[str, str]], _exc_info: object = None) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda _: None

    begun = time.perf_counter()
    body = b"".join(app(environ, start_response))
    return Asked(statuses[0][:3], (time.perf_counter() - begun) * 1000, body)


def owner(_: object) -> Viewer:
    """Who asks."""
    return Viewer.organization(ORG)
