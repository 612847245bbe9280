"""Corrections and backfill: what was counted wrongly, and calls of the past, each counted once by its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from usage_middleware.errors import RowRefused, UsageUnavailable
from usage_middleware.events import CallKey
from usage_middleware.options import NONE
from usage_middleware.periods import Resolution
from usage_middleware.record.once import OnceWriter, Way, used_before
from usage_middleware.record.rows import Row, RowReader
from usage_middleware.store.retention import finest_kept, is_late
from usage_middleware.store.rollup import NO_BOARD

#: So many rows are added up and sent together. With more there is more that rows share, and more that has to be sent again.
ROWS_TOGETHER = 10_000


class Progress(NamedTuple):
    """How far a backfill is.

    Attributes:
        rows: how many rows were read, and are counted.
        calls: how many calls are in them.
        repeated: how many of these rows were counted before, under the same ids.
    """

    rows: int = 0
    calls: int = 0
    repeated: int = 0


class Corrections:
    """What `Usage` corrects and backfills with. Rows are read in this process, and written by the script of all writes."""

    def __init__(self, writer: OnceWriter, clock: Callable[[], float]) -> None:
        self._writer = writer
        self._clock = clock
        self._rows = RowReader(writer.schema.settings, clock)

    def correct(
        self,
        org: str,
        *,
        id: str,
        at: datetime | str | float,
        reason: str,
        key: str | None,
        endpoint: str,
        status: int,
        calls: int,
        counts: Mapping[str, int] | None = None,
        tags: Mapping[str, str] | None = None,
        bytes: int = 0,
        latency_ms: float = 0,
    ) -> bool:
        """Change what was counted, once for each `id`; operators see it with its reason.

        It changes every number that the calls are in, of the organisation and of all organisations together, at every
        resolution that is kept. Percentiles stay as they are. To move calls, take them away with one correction, and add them
        with another.

        Args:
            org: the organisation.
            id: a name that you choose, unique in the organisation, for as long as the month of `at` is kept.
            at: when the calls finished: an aware datetime, RFC 3339, or seconds since 1970.
            reason: why, for people.
            key: the API key's id; None: calls without one. Names are those that answers list, also `(other)`.
            endpoint: the method and the route's template, for instance `GET /v1/items/{id}`.
            status: the HTTP status of the calls.
            calls: how many calls more, or fewer if it is below 0. May be 0 if something else changes.
            counts: counter -> how much more.
            tags: dimension -> member of these calls.
            bytes: how many bytes of response bodies more.
            latency_ms: how much more their durations add up to, milliseconds. It changes the average, and no percentile.

        Returns:
            True if it was counted now, False if it was before.

        Raises:
            RowRefused: something is wrong with it, or a counter would fall below 0. Nothing is counted then.
            UsageUnavailable: Redis does not answer. Repeat it with the same `id`.
            ConfigurationError: Redis holds counters of another shape than these options say.
        """
        given = self._rows.correction(
            {
                "org": org, "id": id, "at": at, "reason": reason, "key": key, "endpoint": endpoint, "status": status,
                "calls": calls, "counts": counts, "tags": tags, "bytes": bytes, "latency_ms": latency_ms,
            }
        )  # fmt: skip
        self._check_kept(given)
        row = self._placed(given, self._writer.agree(), self._finest())
        # Both first, so that one is not changed where the other can't be.
        self._writer.count([row], Way(corrects=True, trying=True))
        return not self._writer.count([row], Way(corrects=True))

    def backfill(
        self, rows: Iterable[Mapping[str, Any]], *, progress: Callable[[Progress], object] = lambda _: None
    ) -> Progress:
        """Count calls of the past, once for each row's `id`.

        Args:
            rows: dicts with `org` and the arguments of `correct`; `reason` is not needed and not kept. Amounts are sums over
                the row's calls, none below 0. They are counted in the latency bin of their average, or in
                `latency_bins` {bin: calls}. Rows are read as they are sent, 10,000 at a time, best in the order of time.
            progress: called each time that rows are counted.

        Returns:
            What was counted.

        Raises:
            RowRefused: a row is wrong. It is not counted, and others of the same 10,000 may not be: put it right, and repeat
                all with the same ids.
            UsageUnavailable: Redis does not answer. The message says which rows are counted; repeat all with the same ids.
            ConfigurationError: Redis holds counters of another shape than these options say.
        """
        done, since = Progress(), self._writer.agree()
        numbered = enumerate(rows)
        while some := list(islice(numbered, ROWS_TOGETHER)):
            read = self._read(some, since)
            try:
                repeated = len(some) - len(read) + self._writer.count(read, Way(corrects=False))
            except UsageUnavailable as error:
                raise UsageUnavailable(f"{error} The first {done.rows} rows are counted.") from None
            calls = sum(row.totals.calls for row in read)
            done = Progress(done.rows + len(some), done.calls + calls, done.repeated + repeated)
            progress(done)
        return done

    def _read(self, some: Iterable[tuple[int, object]], since: Mapping[str, int]) -> list[Row]:
        """Rows, each id once.

        Raises:
            RowRefused: one of them is wrong.
        """
        finest = self._finest()
        found: dict[tuple[str, str], Row] = {}
        for place, given in some:
            row = self._rows.backfilled(given, place)
            self._check_kept(row)
            first = found.setdefault((row.org, row.id), row)
            if not first.is_kept_as(row.record):
                raise used_before(row)
        return [self._placed(row, since, finest) for row in found.values()]

    def _check_kept(self, row: Row) -> None:
        if is_late(self._writer.schema, row.key.minute, int(self._clock())):
            raise RowRefused("not_kept", "at is so long ago that nothing of that time is kept", "at", row.place)

    def _finest(self) -> Callable[[int], Resolution]:
        """The finest slots that are kept around the start of a slot of the middle layer: many rows share one."""
        schema, now = self._writer.schema, int(self._clock())
        return cache(lambda start: finest_kept(schema, start, now))

    def _placed(self, row: Row, since: Mapping[str, int], finest: Callable[[int], Resolution]) -> Row:
        """The row in the finest slot that is kept, so that rows of old times have more in common.

        Without a tag it is on no board of a dimension that was declared later, as calls of that time are.
        """
        settings, key = self._writer.schema.settings, row.key
        minute = finest(settings.layers.middle.floor(key.minute)).floor(key.minute)
        tags = tuple(
            [
                NO_BOARD if row.at_ms < since.get(name, 0) and tag == settings.untagged.get(name, NONE) else tag
                for name, tag in zip(settings.dimensions, key.tags, strict=True)
            ]
        )
        return row._replace(key=CallKey(minute, key.caller, key.endpoint, tags, key.status))
