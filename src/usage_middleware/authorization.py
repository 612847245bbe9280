"""Reads a key out of a header as loosely as applications do, so that no way to write it is overlooked."""

from __future__ import annotations

from base64 import b64decode
from typing import TypeAlias

#: Several texts, each of which may be the key.
Words: TypeAlias = tuple[str, ...]
#: Schemes of `Authorization` that carry something else than a key.
_OTHER_SCHEMES = frozenset({"", "basic", "digest", "negotiate", "ntlm"})


def bearer(text: str) -> str | Words | None:
    """The key in an `Authorization`: that of `Bearer`, of a scheme that is not known, or one without a scheme.

    Many applications cut off the first word, or `Bearer `, and ask no further. Schemes with parameters carry no key. Several
    words stand for all of them, for the first and for the last.

    >>> bearer("Bearer sk_1"), bearer("Token sk_1"), bearer("sk_1"), bearer("Digest username=a"), bearer("Bearer")
    ('sk_1', 'sk_1', 'sk_1', None, None)
    >>> bearer("Bearer sk_1 junk")
    ('sk_1 junk', 'sk_1', 'junk')
    """
    scheme, token = _scheme(text)
    if scheme != "bearer":
        if scheme in _OTHER_SCHEMES or "=" in token.rstrip("="):
            return None
        token = token or text.strip()
    words = token.split()
    return (token or None) if len(words) < 2 else (token, words[0], words[-1])


def basic_user(text: str) -> str | None:
    """The user name in `Authorization: Basic`; None of another scheme, and of what can't be read."""
    scheme, encoded = _scheme(text)
    if scheme != "basic":
        return None
    try:
        return b64decode(encoded).decode("utf-8", "replace").partition(":")[0]
    except ValueError:
        return None


def _scheme(text: str) -> tuple[str, str]:
    """The scheme, in lower case, and what comes after it. Any blank ends it."""
    words = text.split(None, 1)
    return (words[0].lower() if words else "", words[1].strip() if len(words) > 1 else "")
