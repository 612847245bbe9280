"""The bytes of a file that an ASGI server sends by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sent_by_server(kind: str, message: Mapping[str, Any], began: Mapping[str, Any] | None) -> tuple[int, bool]:
    """How many bytes the server sends for a message that may name a file, and whether it is the last of its response.

    `began` is the message that began the response, with the headers.
    """
    if kind == "http.response.pathsend":
        return _content_length(began), True
    if kind == "http.response.zerocopysend":
        count = message.get("count")
        return _content_length(began) if count is None else count, not message.get("more_body")
    return 0, False


def _content_length(began: Mapping[str, Any] | None) -> int:
    for name, value in () if began is None else began.get("headers", ()):
        if name.lower() == b"content-length":
            return int(value)
    return 0
