"""Templates and paths: a route's rule in our syntax, the template that a path fits, a path without its prefix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from usage_middleware.capture.regexes import regex_template

_BRACED = re.compile(r"\{\s*([^{}:]+?)\s*(?::(?:[^{}]|\{[^{}]*\})*)?\}")
_ANGLED = re.compile(r"<(?:[^<>]*:)?\s*(\w+)\s*>")
_PARAMETER = re.compile(r"\{[^{}]*\}")


@lru_cache(maxsize=4096)
def template_of(rule: str) -> str:
    """A route's rule in our syntax, whatever that of its framework.

    >>> template_of("/items/<int:id>"), template_of("items/{id:int}"), template_of("^items/(?P<id>[0-9]+)/$")
    ('/items/{id}', '/items/{id}', '/items/{id}/')
    """
    if "(?P<" in rule:
        rule = regex_template(rule)
    rule = _ANGLED.sub(r"{\1}", _BRACED.sub(r"{\1}", rule))
    return rule if rule.startswith("/") else "/" + rule


@lru_cache(maxsize=4096)
def _pattern(template: str, value: str) -> re.Pattern[str]:
    """A pattern for the paths of this template, whose parameters match `value`."""
    return re.compile(value.join(re.escape(part) for part in _PARAMETER.split(template)))


def best(templates: Sequence[str], path: str) -> str | None:
    """The first of these templates that the path fits."""
    for value in ("[^/]+", ".*"):
        for template in templates:
            if _pattern(template, value).fullmatch(path):
                return template
    return None


def relative_path(path: str, root: str) -> str:
    """A path without the prefix of the deployment, which some servers leave in it and others don't.

    >>> relative_path("/api/items", "/api"), relative_path("/items", "/api"), relative_path("/apis", "/api")
    ('/items', '/items', '/apis')
    """
    root = root.rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path
