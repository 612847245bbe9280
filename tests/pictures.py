"""The pictures of the page in docs/images: each says in itself of which page it is."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from usage_middleware.web.page.files import static_files
from usage_middleware.web.page.words import words

IMAGES = Path(__file__).parents[1] / "docs" / "images"
#: Name -> what the browser is like, and the address of the page.
PICTURES: dict[str, tuple[dict[str, Any], str]] = {
    "dashboard": ({"viewport": {"width": 1180, "height": 975}, "color_scheme": "light"}, "?timezone=UTC"),
    "dashboard-phone": ({"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}, "?timezone=UTC&period=7d"),
}
#: How long the beginning of every PNG is, its first chunk included; and under which name our text stands behind it.
_HEADER, _KEYWORD = 8 + 25, b"Comment\0"


def page_as_it_is() -> str:
    """What changes with the page: its modules, styles and words."""
    return f"{static_files(plans=True).folder} {zlib.crc32(repr(sorted(words('en').items())).encode()):08x}"


def marked(png: bytes, text: str) -> bytes:
    """A picture with a line of text in it, which nobody sees."""
    content = b"tEXt" + _KEYWORD + text.encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_HEADER] + chunk + png[_HEADER:]


def mark_of(png: bytes) -> str:
    """The text in a picture; empty if there is none."""
    (length,) = struct.unpack(">I", png[_HEADER : _HEADER + 4])
    content = png[_HEADER + 4 : _HEADER + 8 + length]
    return content.removeprefix(b"tEXt" + _KEYWORD).decode("ascii") if content.startswith(b"tEXt" + _KEYWORD) else ""
