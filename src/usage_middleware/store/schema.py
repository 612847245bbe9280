"""Every Redis key and field name, built and parsed here and nowhere else. `docs/reference/redis-schema.md` is its contract.

A *member* is a name as it stands in a sorted set; a *segment* is a member as it stands inside a key's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

from usage_middleware.options import Settings
from usage_middleware.store.members import OPERATOR

CALLS, LATENCY, BYTES, LAST, DROPPED = "calls", "latency_us", "bytes", "last_ms", "dropped"
#: Of a series: how many of its calls corrections have added, less those that they took away. They are in no histogram.
CORRECTED = "corrected"
#: Sparse: absent means 0. 2xx is `calls` less these.
CLASSES = ("1xx", "3xx", "4xx", "5xx")
BOARD_MEASURES = (CALLS, LATENCY, *CLASSES)

_UNSAFE = re.compile(r"[%:\x00-\x1f\x7f-\x9f]")
_UNSAFE_IN_ORG = re.compile(r"[%:{}\x00-\x1f\x7f-\x9f]")


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


def todo_member(res: str, day: str) -> str:
    """A member of `history_todo`: `30m 2026-11-20`."""
    return f"{res} {day}"


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

    def boards(self, org: str, slots: Iterable[str], dimension: str, measure: str) -> list[str]:
        """As `board`, in many slots, each with its resolution: `30m:2026-11-20T1330`."""
        return self._boards(org, slots, f"{dimension}:{measure}")

    def latency_board(self, org: str, res: str, slot: str, endpoint: str | None = None) -> str:
        """The histogram of the organisation, or of one endpoint."""
        return self.latency_boards(org, (f"{res}:{slot}",), endpoint)[0]

    def latency_boards(self, org: str, slots: Iterable[str], endpoint: str | None = None) -> list[str]:
        """As `latency_board`, in many slots."""
        return self._boards(org, slots, "latency" if endpoint is None else f"endpoint:{segment(endpoint)}:latency")

    def key_board(self, org: str, res: str, slot: str, key: str) -> str:
        """All that one key did in a slot: `<measure> <dimension> <member>` and `calls latency <bin>`."""
        return f"{self.tree(org)}:board:{res}:{slot}:key:{key_segment(key)}"

    def key_boards(self, org: str, slots: Iterable[str], key: str) -> list[str]:
        """As `key_board`, in many slots."""
        return self._boards(org, slots, f"key:{key_segment(key)}")

    def _boards(self, org: str, slots: Iterable[str], of: str) -> list[str]:
        begin = f"{self.tree(org)}:board:"
        return [f"{begin}{slot}:{of}" for slot in slots]

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

    def parts(self, org: str, worker: str) -> str:
        """A chunk of this worker that is sent in parts."""
        return f"{self.applied(org, worker)}:parts"

    def marked(self, org: str) -> str:
        """HASH worker -> the day of its last chunk; lives longer than any counter of the organisation."""
        return f"{self.tree(org)}:marked"

    def corrections(self, org: str, month: str) -> str:
        """HASH id -> a correction of calls of a month (`2026-11`)."""
        return f"{self.tree(org)}:corrections:{month}"

    def backfilled(self, org: str, month: str) -> str:
        """HASH id -> a hash of what was backfilled under it into a month."""
        return f"{self.tree(org)}:backfilled:{month}"

    def history(self, org: str, month: str) -> str:
        """HASH of the packed half-hours and days of a month (`2026-11`), see `store.history`."""
        return f"{self.tree(org)}:history:{month}"

    def history_todo(self, org: str) -> str:
        """ZSET `<resolution> <day>` that is to be packed -> how many chunks have written it since."""
        return f"{self.tree(org)}:history:todo"

    def history_lease(self, org: str) -> str:
        """Who packs this organisation now."""
        return f"{self.tree(org)}:history:lease"

    @property
    def history_schedule(self) -> str:
        """ZSET organisation -> when something of it is to be packed next, seconds since the epoch."""
        return f"{self.tree(OPERATOR)}:history:schedule"

    @property
    def history_packed(self) -> str:
        """ZSET organisation of which something is packed -> when the last of it ends, seconds since the epoch."""
        return f"{self.tree(OPERATOR)}:history:packed"

    @property
    def history_seeding(self) -> str:
        """Who marks now what was counted before history began."""
        return f"{self.tree(OPERATOR)}:history:seeding"

    def keys(self, org: str) -> str:
        """The key directory of an organisation (HASH key id -> JSON)."""
        return f"{self.tree(org)}:keys"

    def keys_by_name(self, org: str) -> str:
        """The active keys in the order of names (ZSET of `name NUL key id`, all scores 0)."""
        return f"{self.tree(org)}:keys:names"

    def revoked_keys_by_name(self, org: str) -> str:
        """As `keys_by_name`, of the revoked ones."""
        return f"{self.tree(org)}:keys:revoked"

    def key_labels(self, org: str) -> str:
        """Owners and labels of the keys of an organisation (HASH key id -> JSON)."""
        return f"{self.tree(org)}:keys:labels"

    def plan(self, org: str) -> str:
        """The plans of an organisation over time (HASH `org`, or `key` and an API key -> JSON)."""
        return f"{self.tree(org)}:plan"

    def statement(self, org: str, start: int) -> str:
        """The final statement of the billing period of an organisation that began then, seconds since the epoch (JSON)."""
        return f"{self.tree(org)}:statement:{start}"

    def alerts(self, org: str, month: str) -> str:
        """The thresholds that were reached in periods that began in a month (HASH threshold -> JSON)."""
        return f"{self.tree(org)}:alerts:{month}"

    def outbox(self, org: str) -> str:
        """Alerts that are to be delivered (ZSET id -> when to try next, ms)."""
        return f"{self.tree(org)}:outbox"

    def outbox_items(self, org: str) -> str:
        """The same alerts (HASH id -> JSON)."""
        return f"{self.tree(org)}:outbox:items"

    @property
    def outbox_orgs(self) -> str:
        """Which organisations have alerts to be delivered (ZSET organisation -> when to look, ms)."""
        return f"{self.tree(OPERATOR)}:outbox"

    @property
    def period_ends(self) -> str:
        """When to look at organisations whose billing periods end (ZSET organisation -> when, ms)."""
        return f"{self.tree(OPERATOR)}:period_ends"

    def cache(self, org: str, digest: str) -> str:
        """One cached answer."""
        return f"{self.tree(org)}:cache:{digest}"

    def cache_index(self, org: str, viewer: str = "") -> str:
        """The cached answers of an organisation, or of one viewer there (ZSET digest -> when it ends, ms)."""
        return f"{self.tree(org)}:cache:index{viewer and ':'}{viewer}"

    def limits(self, org: str) -> str:
        """How much of their limits on the usage API viewers have used (HASH viewer and seconds -> when it is paid for, us)."""
        return f"{self.tree(org)}:limits"

    def ticket(self, kind: str, digest: str) -> str:
        """Whom a `session` or an `embed` token stands for, by its hash (JSON)."""
        return f"{self.tree(OPERATOR)}:{kind}:{digest}"

    @property
    def credentials(self) -> str:
        """HASH digest of a peppered credential -> organisation and key id."""
        return f"{self.tree(OPERATOR)}:credentials"

    @property
    def unknown_keys(self) -> str:
        """ZSET name of a credential that nobody knows -> when it was last seen, ms; those that have a row of their own."""
        return f"{self.tree(OPERATOR)}:unknown"

    @property
    def unknown_orgs(self) -> str:
        """ZSET organisation that the key directory does not know, and that has a tree -> when it was last seen, ms."""
        return f"{self.tree(OPERATOR)}:unknown_orgs"

    @property
    def pepper(self) -> str:
        """The secret that keys the hash of credentials, where none was given."""
        return f"{self.tree(OPERATOR)}:pepper"

    def rotated(self, mark: str) -> str:
        """SET of the credentials that are known to be under one pepper, while peppers are rotated."""
        return f"{self.credentials}:{mark}"

    @property
    def routes(self) -> str:
        """The application's own routes, for rows of zeros (ZSET `public` or `hidden` and endpoint -> when published, ms)."""
        return f"{self.tree(OPERATOR)}:routes"

    @property
    def meta(self) -> str:
        """Schema version, slot minutes, since when each dimension is kept."""
        return f"{self.tree(OPERATOR)}:meta"

    @property
    def workers(self) -> str:
        """ZSET worker -> last sign of life in ms, so that no reader has to scan."""
        return f"{self.tree(OPERATOR)}:workers"

    @property
    def owing(self) -> str:
        """HASH worker -> what it may still have to deliver."""
        return f"{self.tree(OPERATOR)}:owing"

    def worker(self, worker: str) -> str:
        """The status that one worker writes (HASH, 60 s)."""
        return f"{self.tree(OPERATOR)}:worker:{worker}"
