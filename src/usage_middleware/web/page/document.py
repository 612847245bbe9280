"""The HTML of the page and its Content-Security-Policy. Everything else is a module that the browser loads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from usage_middleware.web.page.files import LATER, PAGE, STYLE, static_files

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


def document(start: Mapping[str, object], words: Mapping[str, str], language: str, theme: str) -> bytes:
    """The page, with what it starts from."""
    static = static_files()
    preloads = (f'<link rel="modulepreload" href="{static.path(name)}">' for name in later(start))
    html = _HTML.format(
        language=language,
        theme=f' data-theme="{theme}"' if theme else "",
        title=escape(words["title"]),
        style=static.path(STYLE),
        modules="\n".join(preloads),
        start=embedded_json({**start, "language": language, "words": words}),
        first=static.path(PAGE),
        without_scripts=escape(words["without_scripts"]),
    )
    return html.encode()


def later(start: Mapping[str, Any]) -> list[str]:
    """The modules that not all need, and the first view does."""
    viewer: Mapping[str, object] = start.get("viewer") or {}
    wanted = {"operator.js": viewer.get("operator"), "plans.js": start.get("plans"), "sign_in.js": "error" in start}
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
