"""Every Redis key and field name, built and parsed here and nowhere else. `docs/reference/redis-schema.md` is its contract.

A *member* is a name as it stands in a sorted set; a *segment* is a member as it stands inside a key's name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

from usage_middleware.options import DEFAULT_ORG, NONE, Settings

#: Reserved members.
OTHER, ANONYMOUS, UNMATCHED, UNKNOWN = "(other)", "(anonymous)", "(unmatched)", "(unknown)"

#: The organisation of the operator's tree. No tenant can be called so: its own `*` is written `%2A`.
OPERATOR = "*"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER_METHOD = "OTHER"

CALLS, LATENCY, BYTES, LAST, DROPPED = "calls", "latency_us", "bytes", "last_ms", "dropped"
#: Sparse: absent means 0. 2xx is `calls` less these.
CLASSES = ("1xx", "3xx", "4xx", "5xx")
BOARD_MEASURES = (CALLS, LATENCY, *CLASSES)

MEMBER_BYTES = 128
_KEPT_BYTES = 96
_ESCAPED_PAREN = re.compile(r"%(?=(?:25)*28)")
_ESCAPED_STAR = re.compile(r"%(?:25)*2A")
#: How a name ends that was cut; a lone surrogate, which is no UTF-8, is cut too.
_CUT = re.compile(r"~[0-9a-f]{16}\Z|[\ud800-\udfff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_UNSAFE = re.compile(r"[%:\x00-\x1f\x7f-\x9f]")
_UNSAFE_IN_ORG = re.compile(r"[%:{}\x00-\x1f\x7f-\x9f]")


def member(name: str) -> str:
    """A caller-supplied name as a member: never a reserved one, never longer than 128 bytes, always valid UTF-8.

    Different names are different members: what is cut carries a hash, and so does a name that ends as a cut one does.

    >>> member("(other)"), member("%28other)"), len(member("x" * 10_000))
    ('%28other)', '%2528other)', 113)
    """
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


@lru_cache(maxsize=1024)
def status_class(status: int) -> str:
    """`2xx` and so on; 600 and up counts as `5xx`, below 100 as `1xx`."""
    return f"{min(max(status // 100, 1), 5)}xx"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode())


@lru_cache(maxsize=16384)
def segment(name: str) -> str:
    """A member as it stands in a key's name: `%`, `:` and control characters percent-encoded.

    >>> segment("GET /v1/{id}:run")
    'GET /v1/{id}%3Arun'
    """
    return _UNSAFE.sub(_percent, name)


@lru_cache(maxsize=16384)
def key_segment(key: str) -> str:
    """As `segment`, for what stands after `board:...:key:`, where a key called `calls` must not be taken for the measure."""
    if key in BOARD_MEASURES:
        return f"%{ord(key[0]):02X}{key[1:]}"
    return segment(key)


@lru_cache(maxsize=16384)
def org_segment(org: str) -> str:
    """As `segment`, and `{` and `}` too: they would move the hash tag. The operator's `*` stays."""
    return _UNSAFE_IN_ORG.sub(_percent, org)


def status_field(status: int) -> str:
    """The series measure of one status code: `s200`."""
    return f"s{status}"


def counter_field(counter: str) -> str:
    """The series measure of a declared counter: `c.records`."""
    return f"c.{counter}"


def since_field(dimension: str) -> str:
    """The field of `meta` that tells since when a dimension is kept, in milliseconds since the epoch."""
    return f"since:{dimension}"


class Schema:
    """The key names of one namespace."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.layers = settings.layers
        self.namespace = settings.namespace
        self.shards = settings.shards

    def tree(self, org: str) -> str:
        """What every key of an organisation begins with: `usage:{acme}`."""
        return f"{self.namespace}:{{{org_segment(org)}}}"

    def series(self, org: str, res: str, block: str) -> str:
        """The hash of an organisation over the slots of a block."""
        return f"{self.tree(org)}:series:{res}:{block}"

    def series_of(self, org: str, res: str, block: str, dimension: str, name: str) -> str:
        """The hash of one endpoint or key over the slots of a block."""
        return f"{self.tree(org)}:series:{res}:{block}:{dimension}:{segment(name)}"

    def board(self, org: str, res: str, slot: str, dimension: str, measure: str) -> str:
        """The sorted set of a dimension's members by one measure; `dimension` may carry a shard (`key~3`)."""
        return f"{self.tree(org)}:board:{res}:{slot}:{dimension}:{measure}"

    def latency_board(self, org: str, res: str, slot: str, endpoint: str | None = None) -> str:
        """The histogram of the organisation, or of one endpoint."""
        under = "" if endpoint is None else f":endpoint:{segment(endpoint)}"
        return f"{self.tree(org)}:board:{res}:{slot}{under}:latency"

    def key_board(self, org: str, res: str, slot: str, key: str) -> str:
        """All that one key did in a slot: `<measure> <dimension> <member>` and `calls latency <bin>`."""
        return f"{self.tree(org)}:board:{res}:{slot}:key:{key_segment(key)}"

    def sharded(self, dimension: str, name: str) -> str:
        """The dimension as the board of this member names it.

        >>> Schema(Settings(shards={"key": 16})).sharded("key", "key_7")
        'key~11'
        """
        count = self.shards.get(dimension, 1)
        return dimension if count == 1 else f"{dimension}~{crc32(name.encode()) % count}"

    def all_shards(self, dimension: str) -> list[str]:
        """Every name under which boards of this dimension stand."""
        count = self.shards.get(dimension, 1)
        return [dimension] if count == 1 else [f"{dimension}~{number}" for number in range(count)]

    def seen(self, org: str, dimension: str) -> str:
        """The registry of a dimension: member -> last activity in ms."""
        return f"{self.tree(org)}:seen:{dimension}"

    def applied(self, org: str, worker: str) -> str:
        """The number of the last chunk of this worker that was applied."""
        return f"{self.tree(org)}:applied:{worker}"

    def keys(self, org: str) -> str:
        """The key directory of an organisation (HASH key id -> JSON)."""
        return f"{self.tree(org)}:keys"

    def keys_by_name(self, org: str) -> str:
        """The active keys in the order of names (ZSET of `name NUL key id`, all scores 0)."""
        return f"{self.tree(org)}:keys:names"

    def revoked_keys_by_name(self, org: str) -> str:
        """As `keys_by_name`, of the revoked ones."""
        return f"{self.tree(org)}:keys:revoked"

    def cache(self, org: str, digest: str) -> str:
        """One cached answer."""
        return f"{self.tree(org)}:cache:{digest}"

    def cache_index(self, org: str) -> str:
        """The cached answers of an organisation (ZSET digest -> when it ends, ms)."""
        return f"{self.tree(org)}:cache:index"

    @property
    def credentials(self) -> str:
        """HASH digest of a peppered credential -> organisation and key id."""
        return f"{self.tree(OPERATOR)}:credentials"

    @property
    def pepper(self) -> str:
        """The secret that keys the hash of credentials, where none was given."""
        return f"{self.tree(OPERATOR)}:pepper"

    @property
    def routes(self) -> str:
        """The application's own routes, for rows of zeros."""
        return f"{self.tree(OPERATOR)}:routes"

    @property
    def meta(self) -> str:
        """Schema version, slot minutes, since when each dimension is kept."""
        return f"{self.tree(OPERATOR)}:meta"

    @property
    def workers(self) -> str:
        """ZSET worker -> last sign of life in ms, so that no reader has to scan."""
        return f"{self.tree(OPERATOR)}:workers"

    def worker(self, worker: str) -> str:
        """The status that one worker writes (HASH, 60 s)."""
        return f"{self.tree(OPERATOR)}:worker:{worker}"


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
