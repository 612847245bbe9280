"""A request and a response, as every shell passes them to the handler and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from usage_middleware.report.viewer import Viewer


def _no_header(_: str) -> str:
    return ""


class Request(NamedTuple):
    """What the handler needs of a request.

    Attributes:
        path: under the mount; `""` and `/` are both the mount's root.
        query: the query string as it came, percent-encoded.
        root: where the usage app is mounted, for the server in `/openapi.json`.
        header: the value of a header by its name in lower case, empty if there is none.
        peer: the address of whoever is connected to the server; empty where the server does not tell.
    """

    method: str
    path: str
    query: bytes = b""
    root: str = ""
    header: Callable[[str], str] = _no_header
    peer: str = ""


class Response(NamedTuple):
    """The answer that a shell sends.

    Attributes:
        viewer: whom it is for, where that is known.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    viewer: Viewer | None = None

    @property
    def status_line(self) -> str:
        """As WSGI wants it: `200 OK`."""
        return f"{self.status} {reason(self.status)}"


def reason(status: int) -> str:
    """The status's reason phrase. 422 was renamed in Python 3.13; the documents have the older name.

    >>> reason(400), reason(422)
    ('Bad Request', 'Unprocessable Entity')
    """
    return "Unprocessable Entity" if status == 422 else HTTPStatus(status).phrase


def json_response(content: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    """Anything msgspec can encode, as JSON."""
    return Response(status, {"Content-Type": "application/json", **headers}, msgspec.json.encode(content))
