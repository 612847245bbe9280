"""The HTML of the page and its Content-Security-Policy. Everything else is a module that the browser loads."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from usage_middleware.web.page.files import LATER, PAGE, STYLE, StaticFiles
from usage_middleware.web.page.words import words

_HTML = """\
<!doctype html>
<html lang="{language}"{theme}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
{modules}
<script type="application/json" id="usage-start">{start}</script>
<script type="module" src="{first}"></script>
</head>
<body>
<main id="main" data-state="loading" aria-busy="true"><noscript><p>{without_scripts}</p></noscript></main>
</body>
</html>
"""


class Start(NamedTuple):
    """What a page starts from.

    Attributes:
        known: what its scripts are told.
        asked: the parameters of its address.
    """

    known: Mapping[str, Any]
    language: str
    theme: str
    asked: Collection[str] = ()


def document(static: StaticFiles, start: Start) -> bytes:
    """The page, with what it starts from."""
    spoken = words(start.language)
    preloads = (f'<link rel="modulepreload" href="{static.path(name)}">' for name in later(start))
    html = _HTML.format(
        language=start.language,
        theme=f' data-theme="{start.theme}"' if start.theme else "",
        title=escape(spoken["title"]),
        style=static.path(STYLE),
        modules="\n".join(preloads),
        start=embedded_json({**start.known, "language": start.language, "words": spoken}),
        first=static.path(PAGE),
        without_scripts=escape(spoken["without_scripts"]),
    )
    return html.encode()


def later(start: Start) -> list[str]:
    """The modules that not all need, and the first view does."""
    known = start.known
    viewer: Mapping[str, object] = known.get("viewer") or {}
    is_inside = bool(viewer) and (not viewer.get("operator") or "org" in start.asked)
    is_endpoint = is_inside and "endpoint" in start.asked and not viewer.get("key")
    wanted = {
        "operator.js": bool(viewer) and not is_inside,
        "endpoint.js": is_endpoint,
        "key.js": is_inside and not is_endpoint and "key" in start.asked,
        "sign_in.js": "error" in known,
        "frame.js": "embedded" in known,
    }
    return [name for name in LATER if wanted.get(name)]


def embedded_json(content: object) -> str:
    r"""JSON that can stand inside of a script element, whatever is in it.

    >>> print(embedded_json("</script><!--"))
    "\u003c/script\u003e\u003c!--"
    """
    # In ASCII, which also keeps text that is no valid UTF-8.
    text = json.dumps(content)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def policy(frames: Sequence[str] = ()) -> str:
    """The Content-Security-Policy: only files and answers of the mount itself; shown in frames of these origins only."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "form-action 'self'",
            "base-uri 'none'",
            " ".join(("frame-ancestors 'self'", *frames)),
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
