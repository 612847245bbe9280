"""Tables as CSV: RFC 4180, UTF-8, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from usage_middleware.gil import LIGHT, yielding

#: What a formula begins with, also in the full-width, small and raised forms that are read as the same.
_SIGNS = r"=+\-@\u2212\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a\u207b\u207c\u208a\u208b\u208c"
#: What may stand before it and is left out: blanks, control characters, what nobody sees, and quotes.
_UNSEEN = (
    r"\s\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\""
)
#: Where a cell begins, and where one may begin inside of ours: spreadsheets are set to other separators, or not to quotes.
_BEGINS = r"^|[,;|\x00-\x1f\x85\u2028\u2029]"
_FORMULA = re.compile(f"({_BEGINS})(?=[{_UNSEEN}]*[{_SIGNS}])|^(?=[\\x00-\\x1f\\x7f\ufeff])")


def encode(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    r"""A table, with CRLF after every line.

    >>> encode(["bucket", "calls"], [["=1+1", 3], ["a,b", None]])
    b'bucket,calls\r\n\'=1+1,3\r\n"a,b",\r\n'
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in yielding(rows, LIGHT))
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    """Text that a spreadsheet would run gets a `'` before it; numbers stay as they are, whatever their sign."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return inert(value) if isinstance(value, str) else value


def inert(text: str) -> str:
    """Text with a `'` before whatever a spreadsheet may take for the begin of a formula.

    >>> inert("=1+1"), inert("GET /items"), inert("a;=1+1")
    ("'=1+1", 'GET /items', "a;'=1+1")
    """
    return _FORMULA.sub(lambda found: f"{found[1] or ''}'", text)
