"""Members: names of organisations, API keys, endpoints and tags as they stand in Redis.

No two names have the same member, and no name that a caller chooses has a reserved one, such as `(other)`.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from usage_middleware.options import DEFAULT_ORG, NONE

#: Reserved members.
OTHER, ANONYMOUS, UNMATCHED, UNKNOWN = "(other)", "(anonymous)", "(unmatched)", "(unknown)"

#: The organisation of the operator's tree. No tenant can be called so: its own `*` is written `%2A`.
OPERATOR = "*"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

OTHER_METHOD = "OTHER"

MEMBER_BYTES = 128

_KEPT_BYTES = 96

_ESCAPED_PAREN = re.compile(r"%(?=(?:25)*28)")

_ESCAPED_STAR = re.compile(r"%(?:25)*2A")

#: How a name ends that was cut; a lone surrogate, which is no UTF-8, is cut too.
_CUT = re.compile(r"~[0-9a-f]{16}\Z|[\ud800-\udfff]")

#: Names that are members as they are, to tell most at once: none begins with `(` or `%`, is long, or may end as a cut one.
_PLAIN = re.compile(r"[A-Za-z0-9_./-][A-Za-z0-9_./ :-]{0,100}\Z")

_SURROGATES = re.compile(r"[\ud800-\udfff]")


def member(name: str) -> str:
    """A caller-supplied name as a member: never a reserved one, never longer than 128 bytes, always valid UTF-8.

    Different names are different members: what is cut carries a hash, and so does a name that ends as a cut one does.

    >>> member("(other)"), member("%28other)"), len(member("x" * 10_000))
    ('%28other)', '%2528other)', 113)
    """
    if _PLAIN.match(name):
        return name
    if name.startswith("("):
        return _fitting("%28" + name[1:])
    return _fitting("%25" + name[1:] if _ESCAPED_PAREN.match(name) else name)


def _fitting(name: str) -> str:
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) <= MEMBER_BYTES and not _CUT.search(name):
        return name
    kept = name.encode("utf-8", "backslashreplace")[:_KEPT_BYTES].decode("utf-8", "ignore")
    return f"{kept}~{blake2b(raw, digest_size=8).hexdigest()}"


def key_member(key: str | None) -> str:
    """The member of an API key's id; `(none)` of an empty one, `(anonymous)` where there is no key."""
    if key is None:
        return ANONYMOUS
    return member(key) if key else NONE


def org_member(org: str | None) -> str:
    """The member of an organisation; `default` of an empty one. Never `*`, which is the operator's.

    >>> org_member("*"), org_member("%2A")
    ('%2A', '%252A')
    """
    found = member(org) if org else DEFAULT_ORG
    if found == OPERATOR:
        return "%2A"
    return "%25" + found[1:] if _ESCAPED_STAR.fullmatch(found) else found


def name_of(found: str) -> str:
    """The name that `member` turns into this member again, unless it was cut: what a key directory is asked for.

    >>> name_of("%28other)"), name_of("%2528other)"), name_of("acme")
    ('(other)', '%28other)', 'acme')
    """
    if found.startswith("%28"):
        return "(" + found[3:]
    return "%" + found[3:] if _ESCAPED_PAREN.match(found) else found


def org_name_of(found: str) -> str:
    """As `name_of`, for what `org_member` made.

    >>> org_name_of("%2A"), org_name_of("%252A")
    ('*', '%2A')
    """
    if found == "%2A":
        return OPERATOR
    return "%" + found[3:] if _ESCAPED_STAR.fullmatch(found) else name_of(found)


def member_from_request(name: str) -> str:
    """The member that a request names: one that an answer listed is kept as it is; what can't be a member is made one."""
    is_member = len(name.encode("utf-8", "surrogatepass")) <= MEMBER_BYTES and not _SURROGATES.search(name)
    return (name if is_member else _fitting(name)) or NONE


def endpoint_member(method: str, template: str | None) -> str:
    """The label under which a request is counted.

    >>> endpoint_member("GET", "/v1/items/{id}"), endpoint_member("BREW", None)
    ('GET /v1/items/{id}', 'OTHER (unmatched)')
    """
    verb = method if method in METHODS else OTHER_METHOD
    return _fitting(f"{verb} {template if template is not None else UNMATCHED}")


def other_member(dimension: str, refused: str) -> str:
    """What a member over the cap is counted as: `(other)`, of an endpoint with its method before it."""
    return f"{refused.split(' ', 1)[0]} {OTHER}" if dimension == "endpoint" else OTHER


def is_reserved(dimension: str, name: str) -> bool:
    """True for the members we make ourselves: the cap never refuses them."""
    return (name.split(" ", 1)[-1] if dimension == "endpoint" else name).startswith("(")


def method_of(endpoint: str) -> str:
    """The HTTP method of an endpoint's label."""
    return endpoint.split(" ", 1)[0]


def route_member(endpoint: str, public: bool) -> str:
    """A member of `routes`: `public GET /v1/items` for a route that the application's schema lists, else `hidden GET ...`."""
    return f"{'public' if public else 'hidden'} {endpoint}"


def parse_route_member(text: str) -> tuple[str, bool]:
    """(endpoint, whether it is public) of a member of `routes`.

    >>> parse_route_member("public GET /v1/items"), parse_route_member("GET /as/an/older/worker/wrote/it")
    (('GET /v1/items', True), ('GET /as/an/older/worker/wrote/it', False))
    """
    word, _, endpoint = text.partition(" ")
    return (endpoint, word == "public") if word in ("public", "hidden") else (text, False)


def key_board_member(measure: str, dimension: str, name: str) -> str:
    """A member of the board under a key: `calls endpoint GET /v1/items`."""
    return f"{measure} {dimension} {name}"


def parse_key_board_member(text: str) -> tuple[str, str, str]:
    """(measure, dimension, member) of a member of the board under a key.

    >>> parse_key_board_member("calls endpoint GET /v1/items")
    ('calls', 'endpoint', 'GET /v1/items')
    """
    measure, dimension, name = text.split(" ", 2)
    return measure, dimension, name
