"""A route's regular expression as a template: its groups are the parameters, by their names."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"(?P<escape>\\.)"
    r"|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<atom>\(\?(?:[a-zA-Z]+\)|P=\w+\)|#[^)]*\)))"  # flags, what an earlier group matched, a comment
    r"|(?P<open>\((?:\?P<(?P<name>\w+)>|\?(?P<kind><?[=!]|[a-zA-Z-]*:|>))?)"
    r"|(?P<close>\))"
    r"|(?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\}|\{,\d+\})[?+]?)"
    r"|(?P<anchor>[\^$])"
    r"|(?P<character>.)",
    re.DOTALL,
)
#: Escapes that match a position, and those that match one of several characters.
_POSITIONS, _KINDS = frozenset("AZbB"), frozenset("dDwWsS")
#: What stands for text that the expression matches and does not name.
_ANY = "*"


def regex_template(pattern: str) -> str:
    r"""A regular expression with `{name}` for each named group, and `{arg1}`, `{arg2}` for the others.

    What is optional and has no name is left out.

    >>> regex_template(r"^items/(?P<id>[^/.]+)/$"), regex_template(r"^a/(\d+)/(?:page-(?P<n>\d+)/)?$")
    ('items/{id}/', 'a/{arg1}/')
    """
    return re.sub(r"\*+", _ANY, _Reader(pattern).sequence())


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, pattern: str) -> None:
        self._tokens = list(_TOKEN.finditer(pattern))
        self._at = 0
        self._unnamed = 0

    def sequence(self) -> str:
        """What stands for everything up to the end of the group, or of the expression."""
        parts: list[str] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.lastgroup == "close":
                break
            part = self._part(token)
            repeat = self._repeat()
            if token[0] == "." and repeat:
                part = _ANY
            is_kept = token["name"] is not None or part == _ANY or repeat[:1] not in ("?", "*")
            parts.append(part if is_kept else "")
        return "".join(parts)

    def _part(self, token: re.Match[str]) -> str:
        if token["open"] is not None:
            return self._group(token)
        if token["escape"] is not None:
            letter = token[0][1]
            return "" if letter in _POSITIONS else _ANY if letter in _KINDS else letter
        if token["set"] is not None:
            return _ANY
        return token[0] if token["character"] is not None else ""

    def _group(self, token: re.Match[str]) -> str:
        name, kind = token["name"], token["kind"]
        if name is None and kind is None:
            self._unnamed += 1
            name = f"arg{self._unnamed}"
        inside = self.sequence()
        if kind is not None:
            return "" if kind[-1] in "=!" else f"({inside})" if "|" in inside else inside
        return inside if token["name"] is None and "{" in inside else f"{{{name}}}"

    def _repeat(self) -> str:
        """How often the last part may come, as it is written; empty: once."""
        if self._at < len(self._tokens) and self._tokens[self._at]["repeat"] is not None:
            self._at += 1
            return self._tokens[self._at - 1][0]
        return ""
