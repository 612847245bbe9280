"""Tables as CSV: RFC 4180, UTF-8, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

#: Spreadsheets take a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def encode(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    r"""A table, with CRLF after every line.

    >>> encode(["bucket", "calls"], [["=1+1", 3], ["a,b", None]])
    b'bucket,calls\r\n\'=1+1,3\r\n"a,b",\r\n'
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    """Text that a spreadsheet would run gets a `'` before it; numbers stay as they are, whatever their sign."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
