"""Makes tables in Markdown, and puts them between two markers of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown.

    >>> print(table(["a", "b"], [[1, "x"]]))
    | a | b |
    |---|---|
    | 1 | x |
    """
    lines = [header, ["---"] * len(header), *rows]
    drawn = [_line(cells) for cells in lines]
    drawn[1] = drawn[1].replace(" ", "")
    return "\n".join(drawn)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def put(page: Path, part: str, text: str) -> None:
    """Put a text between the markers of a part.

    Raises:
        ValueError: the page has no such markers.
    """
    before = page.read_text("utf-8")
    begin, end = f"<!-- {part}: begin, written by `python3 run bench` -->", f"<!-- {part}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{page.name} has no markers for {part}")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", before), "utf-8")
