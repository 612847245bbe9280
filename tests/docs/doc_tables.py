"""Tables of the docs that follow from the settings. `python -m tests.docs.doc_tables` writes them anew; a test holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from usage_middleware.options import CounterKind, Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "redis-schema.md"
BEGIN, END = "<!-- generated: how far back -->", "<!-- end of generated -->"
HEADER = ("who looks", "at what", "edges and buckets", "zones", "answered from", "how far back", "with `history=False`")

_EDGES = ("to the minute", "to the half-hour", "whole UTC days")
_BUCKETS = ("minutes", "hours, days, weeks, months", "UTC days, weeks, months")
_ZONES = ("every zone", "offsets of whole half-hours; of quarter-hours with `slot_minutes=15`", "UTC")


class Question(NamedTuple):
    """One kind of question, and the counters that answer it."""

    viewer: str
    asks: str
    answered_from: str
    kind: CounterKind
    steps: tuple[str, str, str]


_ORGANIZATION, _KEY = "organisation, operator", "one key"
QUESTIONS = (
    Question(_ORGANIZATION, "breakdowns and percentiles: every view but endpoints", "boards", "board", _EDGES),
    Question(_ORGANIZATION, "endpoints of each key: by-key, series", "boards under each key", "key_board", _EDGES),
    Question(_ORGANIZATION, "totals and days: every view", "series of the organisation", "series", _BUCKETS),
    Question(_ORGANIZATION, "buckets of endpoints: endpoints, series", "series of each endpoint", "endpoint", _BUCKETS),
    Question(_ORGANIZATION, "buckets of keys: series", "series of each key", "key", _BUCKETS),
    Question(_KEY, "breakdowns and percentiles: every view", "the board under the key", "key_board", _EDGES),
    Question(_KEY, "totals and days: every view", "series of the key", "key", _BUCKETS),
)


def rows(settings: Settings) -> Iterator[tuple[str, ...]]:
    """A row for each question and resolution."""
    for question in QUESTIONS:
        for layer in settings.layers:
            source = f"{question.answered_from}, `{layer.name}`"
            back = [span(one.kept(question.kind, layer.rank)) for one in (settings, replace(settings, history=False))]
            yield question.viewer, question.asks, question.steps[layer.rank], _ZONES[layer.rank], source, *back


def span(seconds: int) -> str:
    """A retention as people say it."""
    if seconds % 86_400 == 0 and seconds >= 3 * 86_400:
        return f"{seconds // 86_400} days"
    return f"{seconds // 3600} hours" if seconds % 3600 == 0 else f"{seconds // 60} minutes"


def table() -> str:
    """The table as it stands in the page."""
    lines = [HEADER, ("---",) * len(HEADER), *rows(Settings())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rewritten(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
