"""The files of the page: modules and styles, in a folder named by what they hold. Nothing builds them."""

from __future__ import annotations

import gzip
import re
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

from usage_middleware.web.http import Response
from usage_middleware.web.pages import Visit

#: Comments that are lines of their own, and indentation: they don't go over the wire. No text goes over several lines.
_ONLY_FOR_READERS = re.compile(r"^[ \t]*(?://.*|/\*\*.*|\*.*)?\n?", re.MULTILINE)
_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
#: A year: a file that changes gets another address.
FOREVER = "public, max-age=31536000, immutable"


class StaticFile(NamedTuple):
    """A file, as it is and compressed."""

    name: str
    plain: bytes
    packed: bytes

    def answer(self, visit: Visit) -> Response:
        """The file, compressed for those that can read that."""
        headers = {"Content-Type": _TYPES[self.name.rpartition(".")[2]], "Vary": "Accept-Encoding"}
        if "gzip" not in visit.request.header("accept-encoding").lower():
            return Response(200, headers, self.plain)
        return Response(200, {**headers, "Content-Encoding": "gzip"}, self.packed)


class StaticFiles(NamedTuple):
    """All files, and the name of their folder, which changes with any of them: they belong together."""

    folder: str
    files: tuple[StaticFile, ...]

    def path(self, name: str) -> str:
        """Where a file is, seen from the page.

        >>> static_files().path("app.js").startswith("dashboard/")
        True
        """
        return f"dashboard/{self.folder}/{name}"


def _sent(name: str, text: str) -> str:
    """A file as it is sent."""
    return _ONLY_FOR_READERS.sub("", text) if name.endswith(".js") else text


@lru_cache(maxsize=1)
def static_files() -> StaticFiles:
    """Reads the files once."""
    folder = files("usage_middleware.web.page").joinpath("static")
    names = sorted(one.name for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES)
    read = {name: _sent(name, folder.joinpath(name).read_text("utf-8")).encode() for name in names}
    digest = blake2b(b"\0".join(part for name, body in read.items() for part in (name.encode(), body)), digest_size=8)
    packed = (StaticFile(name, body, gzip.compress(body, mtime=0)) for name, body in read.items())
    return StaticFiles(digest.hexdigest(), tuple(packed))
