"""Makes the JSON of an answer a few rows at a time: in the midst of one call for megabytes no other thread could run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from usage_middleware.gil import rest

#: How many rows of a list are encoded in one call.
ROWS = 20
_encode, _append = msgspec.json.encode, msgspec.json.Encoder().encode_into


def encode(report: Mapping[str, Any]) -> bytes:
    """A report as JSON, the same bytes that `msgspec.json.encode` makes of it.

    >>> encode({"rows": [1, 2], "more": None})
    b'{"rows":[1,2],"more":null}'
    """
    body = bytearray()
    _add_fields(body, report)
    return bytes(body)


def _add_fields(body: bytearray, fields: Mapping[str, Any]) -> None:
    mark = b"{"
    for name, value in fields.items():
        body += mark
        _append(name, body, -1)
        body += b":"
        _add(body, value)
        mark = b","
    body += b"}" if fields else b"{}"


def _add(body: bytearray, value: Any) -> None:
    if type(value) is not list or not value:
        _append(value, body, -1)
    elif len(value) > ROWS:
        _add_rows(body, (_encode(value[at : at + ROWS])[1:-1] for at in range(0, len(value), ROWS)))
    else:
        _add_rows(body, (encode(row) if type(row) is dict else _encode(row) for row in value))


def _add_rows(body: bytearray, rows: Iterator[bytes]) -> None:
    mark = b"["
    for some in rows:
        body += mark
        body += some
        mark = b","
        rest()
    body += b"]"
