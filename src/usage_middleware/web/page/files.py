"""The files of the page: modules and styles, in a folder named by what they hold. Nothing has to build them.

The modules that every page needs go over the wire as one file: together they compress to four fifths of the sum. Those about
plans are part of it where there are plans.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

from usage_middleware.web.http import Response
from usage_middleware.web.page.words import LANGUAGES, words
from usage_middleware.web.pages import Visit

#: What the page begins with, and the chart for the pages of others: each a module with all that it imports.
PAGE, CHART, STYLE = "page.js", "chart.js", "page.css"
_BEGINS = {PAGE: ("app.js",), CHART: ("embed.js",)}
_WITH_PLANS = {**_BEGINS, PAGE: ("plans.js", "app.js")}
#: Modules that only some need: they are loaded then.
LATER = ("dates.js", "endpoint.js", "frame.js", "key.js", "operator.js", "sign_in.js")
#: The words that a chart alone needs.
CHART_WORDS = (
    "before",
    "bytes",
    "calls",
    "chart",
    "chart_help",
    "errors",
    "no_calls",
    "others",
    "so_far",
    "total",
    "unreachable",
)
#: Comments that are lines of their own, and indentation: they don't go over the wire. No text goes over several lines.
_ONLY_FOR_READERS = re.compile(r"^[ \t]*(?://.*|/\*\*.*|\*.*)?\n?", re.MULTILINE)
#: White space that means nothing: around signs, but not within texts; in styles also at the ends of lines.
_SCRIPT_SPACE = re.compile(r"""("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|`[^`]*`)| ?(=>|[=?:,;{}()<>|&\[\]*!]+) ?""")
_STYLE_SPACE = re.compile(r"\s*([{};,])\s*|(?<=:) |\n")
_IMPORT = re.compile(r'^import .*"\./(\w+\.js)";\n', re.MULTILINE)
SCRIPT = "text/javascript; charset=utf-8"
_TYPES = {"js": SCRIPT, "css": "text/css; charset=utf-8"}
#: A year: a file that changes gets another address.
FOREVER = "public, max-age=31536000, immutable"
#: Five minutes: a file whose address stays.
A_WHILE = "public, max-age=300"


class StaticFile(NamedTuple):
    """A file, as it is and compressed."""

    name: str
    plain: bytes
    packed: bytes

    def answer(self, visit: Visit) -> Response:
        """The file, compressed for those that can read that."""
        headers = {"Content-Type": _TYPES[self.name.rpartition(".")[2]], "Vary": "Accept-Encoding, Origin"}
        if "gzip" not in visit.request.header("accept-encoding").lower():
            return Response(200, headers, self.plain)
        return Response(200, {**headers, "Content-Encoding": "gzip"}, self.packed)


class StaticFiles(NamedTuple):
    """All files, and the name of their folder, which changes with any of them: they belong together."""

    folder: str
    files: tuple[StaticFile, ...]

    def path(self, name: str) -> str:
        """Where a file is, seen from the page.

        >>> static_files().path("page.js").startswith("dashboard/")
        True
        """
        return f"dashboard/{self.folder}/{name}"


def together(modules: Mapping[str, str], *names: str) -> str:
    """Modules behind all that they import, as one. The names at the top of modules are different ones; a test holds it."""
    wanted = dict.fromkeys(one for name in names for one in _with_imports(modules, name))
    return "".join(_IMPORT.sub("", modules[one]) for one in wanted)


def _with_imports(modules: Mapping[str, str], name: str) -> Iterator[str]:
    for imported in _IMPORT.findall(modules[name]):
        yield from _with_imports(modules, imported)
    yield name


def _from_page(text: str) -> str:
    """A module that takes what it imports from the page's one file."""
    return _IMPORT.sub(lambda found: found[0].replace(found[1], PAGE), text)


def sources() -> dict[str, str]:
    """The files as they are written."""
    folder = files("usage_middleware.web.page").joinpath("static")
    names = sorted(one.name for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES)
    return {name: folder.joinpath(name).read_text("utf-8") for name in names}


def _sent(read: Mapping[str, str], begins: Mapping[str, tuple[str, ...]]) -> dict[str, bytes]:
    """The files as they are sent."""
    modules = {name: _ONLY_FOR_READERS.sub("", text) for name, text in read.items() if name.endswith(".js")}
    modules["words.js"] = f"export const words = {json.dumps(_few_words())};\n"
    first = {name: together(modules, *some) for name, some in begins.items()}
    scripts = {**first, **{name: _from_page(modules[name]) for name in LATER}}
    style = _STYLE_SPACE.sub(lambda found: found[1] or "", read[STYLE])
    return {STYLE: style.encode(), **{name: tight(text).encode() for name, text in scripts.items()}}


def tight(script: str) -> str:
    """A module without the spaces that mean nothing.

    >>> tight('const a = (b) => `${b} = "c"` + " ? ";')
    'const a=(b)=>`${b} = "c"` + " ? ";'
    """
    return _SCRIPT_SPACE.sub(lambda found: found[1] or found[2], script)


def _few_words() -> dict[str, dict[str, str]]:
    """What a chart alone says, in each language."""
    return {language: {name: words(language)[name] for name in CHART_WORDS} for language in LANGUAGES}


@lru_cache(maxsize=2)
def static_files(*, plans: bool = False) -> StaticFiles:
    """The files of mounts with or without `plans`, which are read once."""
    sent = _sent(sources(), _WITH_PLANS if plans else _BEGINS)
    digest = blake2b(b"\0".join(part for name, body in sent.items() for part in (name.encode(), body)), digest_size=8)
    packed = (StaticFile(name, body, gzip.compress(body, mtime=0)) for name, body in sent.items())
    return StaticFiles(digest.hexdigest(), tuple(packed))
