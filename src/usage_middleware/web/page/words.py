"""The words of the page, one JSON a language, and which of them a browser wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

#: The first is for those who want none of them.
LANGUAGES = ("en", "de")
#: How much of `Accept-Language` is read.
_MOST = 1000


@lru_cache(maxsize=len(LANGUAGES))
def words(language: str) -> Mapping[str, str]:
    """The words of a language by their names."""
    found: Mapping[str, str] = json.loads(
        files("usage_middleware.web.page").joinpath("words", f"{language}.json").read_text("utf-8")
    )
    return found


def language_of(asked: str, accepted: str) -> str:
    """The language that was asked for, else the one that an `Accept-Language` header likes most.

    >>> language_of("", "fr, de-AT;q=0.8, en;q=0.5"), language_of("en", "de"), language_of("", "*")
    ('de', 'en', 'en')
    """
    if asked in LANGUAGES:
        return asked
    wanted = [_liked(part) for part in accepted[:_MOST].lower().split(",")]
    known = [(quality, -place, name) for place, (name, quality) in enumerate(wanted) if name in LANGUAGES and quality > 0]
    return max(known)[2] if known else LANGUAGES[0]


def _liked(part: str) -> tuple[str, float]:
    tag, _, more = part.strip().partition(";")
    quality = more.strip().removeprefix("q=")
    try:
        return tag.partition("-")[0].strip(), float(quality) if more else 1.0
    except ValueError:
        return "", 0.0
