"""Forecasts the memory in Redis that an organisation's day takes, from its shape alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp, log, sqrt
from typing import NamedTuple

from usage_middleware.options import CounterKind, Layer

#: Slots of a day, and the blocks that their series stand in.
LAYERS: Mapping[str, tuple[int, int]] = {"1m": (1440, 48), "30m": (48, 1), "1d": (1, 1)}
_LAYERS: Mapping[str, Layer] = {"1m": "minute", "30m": "middle", "1d": "day"}

#: Bytes of a Redis key without its name: object, place in the dictionary of keys and in that of ends.
KEY = 80
#: A listpack: its head, and what an entry of a hash or of a sorted set takes beside its name, the number included.
LISTPACK, HASH_ENTRY, ZSET_ENTRY = 7, 6.3, 5
#: What the allocator rounds up.
ROUNDED = 1.04
#: The same of a sorted set and a hash that are too long for a listpack.
SKIPLIST, NODE = 220, 68
TABLE, FIELD = 170, 44
MOST_IN_ZSET, MOST_IN_HASH, LONGEST = 128, 512, 64


class Shape(NamedTuple):
    """What a forecast has to know of an organisation.

    Attributes:
        endpoints, keys: the shares of the calls that each gets, in groups: (share of one member, how many such).
        calls: how many a day.
        dimensions: as `endpoints`, of each declared dimension.
        counters: how many are declared.
        statuses: status -> share of the calls.
        latency_sd: the standard deviation of the natural logarithm of an endpoint's latency; of all calls it is twice that.
        key_length, endpoint_length, tag_length: of a name, in bytes.
        prefix: how long `<namespace>:{<organisation>}` is.
    """

    endpoints: Sequence[tuple[float, int]]
    keys: Sequence[tuple[float, int]]
    calls: int
    dimensions: Sequence[Sequence[tuple[float, int]]] = ()
    counters: int = 0
    statuses: Mapping[int, float] = {200: 1.0}
    latency_sd: float = 0.6
    key_length: int = 10
    endpoint_length: int = 27
    tag_length: int = 9
    prefix: int = 14


class Forecast(NamedTuple):
    """Redis keys and bytes."""

    keys: float
    bytes: float

    def __add__(self, more: object) -> Forecast:
        assert isinstance(more, Forecast)
        return Forecast(self.keys + more.keys, self.bytes + more.bytes)


NOTHING = Forecast(0, 0)


def even(members: int) -> list[tuple[float, int]]:
    """Members that are called alike."""
    return [(1 / members, members)]


def zipf(members: int, skew: float = 1.0) -> list[tuple[float, int]]:
    """Members of which the n-th is called 1/n**skew as often as the first; the tail in groups."""
    groups: list[tuple[float, int]] = []
    begin = 1
    while begin <= members:
        end = min(members, max(begin, int(begin * 1.1)))
        groups.append((((begin + end) / 2) ** -skew, end - begin + 1))
        begin = end + 1
    whole = sum(weight * many for weight, many in groups)
    return [(weight / whole, many) for weight, many in groups]


def distinct(groups: Iterable[tuple[float, int]], calls: float) -> float:
    """How many members some calls reach, on average."""
    return sum(many * (1 - exp(-calls * share)) for share, many in groups)


def bins(calls: float, sd: float) -> float:
    """How many latency bins some calls reach, on average: a normal distribution over bins of a tenth."""
    width = sd / log(1.1)
    shares = [exp(-(((place + 0.5) / width) ** 2) / 2) / (width * sqrt(6.2832)) for place in range(-60, 60)]
    return distinct([(share, 1) for share in shares], calls)


def day(shape: Shape) -> dict[tuple[str, CounterKind], Forecast]:
    """What one day takes, by resolution and kind."""
    found: dict[tuple[str, CounterKind], Forecast] = {}
    for res, (slots, blocks) in LAYERS.items():
        found[res, "series"] = _series(shape, [(1.0, 1)], 0, slots, blocks)
        found[res, "endpoint"] = _series(shape, shape.endpoints, shape.endpoint_length + 10, slots, blocks)
        found[res, "key"] = _series(shape, shape.keys, shape.key_length + 5, slots, blocks)
        found[res, "board"] = _boards(shape, shape.calls / slots, slots)
        found[res, "key_board"] = _key_boards(shape, shape.calls / slots, slots)
    return found


def kept(shape: Shape, retention: Mapping[CounterKind, Mapping[Layer, int]], days: int = 365) -> Forecast:
    """What all days together take after so many days, when what is past its retention is gone."""
    total = NOTHING
    for (res, kind), one in {**day(shape), **_days_of_a_month(shape)}.items():
        total += _times(one, min(days, retention[kind][_LAYERS[res]] / 86_400))
    return total


def _days_of_a_month(shape: Shape) -> dict[tuple[str, CounterKind], Forecast]:
    """What a day takes of the series by day: thirty of them stand in one block."""
    month = shape._replace(calls=30 * shape.calls)
    named: dict[CounterKind, tuple[Sequence[tuple[float, int]], int]] = {
        "series": ([(1.0, 1)], 0),
        "endpoint": (shape.endpoints, shape.endpoint_length + 10),
        "key": (shape.keys, shape.key_length + 5),
    }
    return {("1d", kind): _times(_series(month, groups, length, 30, 1), 1 / 30) for kind, (groups, length) in named.items()}


def total(many: Iterable[Forecast]) -> Forecast:
    """All of them together."""
    return sum(many, NOTHING)


def _series(shape: Shape, groups: Sequence[tuple[float, int]], length: int, slots: int, blocks: int) -> Forecast:
    total = NOTHING
    for share, many in groups:
        active = distinct([(share, blocks)], shape.calls / blocks)
        if active:
            total += _times(_hash(shape, share, slots, blocks, active, 24 + length), many * active)
    return total


def _hash(shape: Shape, share: float, slots: int, blocks: int, active: float, name: int) -> Forecast:
    """One block of one series: as many slots as have calls, each with its measures and statuses."""
    calls = shape.calls * share / slots
    filled = max(1.0, slots * (1 - exp(-calls)) / active)
    calls = max(1.0, calls / (1 - exp(-calls)))
    fields = filled * (4 + shape.counters + statuses(shape, calls))
    length = 13 if slots == 48 else 10
    packed = fields <= MOST_IN_HASH
    body = LISTPACK + fields * (length + HASH_ENTRY) * ROUNDED if packed else TABLE + fields * (length + FIELD)
    return Forecast(1, KEY + shape.prefix + name + body)


def _boards(shape: Shape, calls: float, slots: int) -> Forecast:
    total = NOTHING
    named = [(shape.endpoints, shape.endpoint_length), (shape.keys, shape.key_length)]
    named += [(groups, shape.tag_length) for groups in shape.dimensions]
    for groups, length in named:
        for odds in (1.0, 1.0, *classes(shape)):
            total += _times(_zset(shape, distinct(groups, calls * odds), length, 33), slots * any_call(calls * odds))
    total += _times(_zset(shape, bins(calls, 2 * shape.latency_sd), 2, 33), slots * any_call(calls))
    for share, many in shape.endpoints:
        times = slots * many * any_call(calls * share)
        if times:
            histogram = bins(given(calls * share), shape.latency_sd)
            total += _times(_zset(shape, histogram, 2, 43 + shape.endpoint_length, given=True), times)
    return total


def _key_boards(shape: Shape, calls: float, slots: int) -> Forecast:
    """One board a key and slot: a key's endpoints, tags and latency bins together."""
    measures = (1.0, 1.0, *classes(shape))
    total = NOTHING
    for share, many in shape.keys:
        mine = calls * share
        times = slots * many * any_call(mine)
        if times:
            mine = given(mine)
            entries = [(sum(distinct(shape.endpoints, mine * odds) for odds in measures), shape.endpoint_length + 16)]
            # A key's calls are tagged alike, more or less.
            entries += [(sum(any_call(mine * odds) for odds in measures), shape.tag_length + 15) for _ in shape.dimensions]
            entries.append((bins(mine, 1.3 * shape.latency_sd), 16))
            total += _times(_mixed(shape, [(max(count, 1.0), length) for count, length in entries]), times)
    return total


def _mixed(shape: Shape, entries: Sequence[tuple[float, int]]) -> Forecast:
    count = sum(many for many, _ in entries)
    length = sum(many * size for many, size in entries) / count
    return _zset(shape, count, length, 30 + shape.key_length, given=True)


def _zset(shape: Shape, members: float, length: float, name: int, *, given: bool = False) -> Forecast:
    """One sorted set; unless `given` that there is one, of the members that its slot has on average where it has any."""
    members = members if given else max(1.0, members / any_call(members))
    packed = members <= MOST_IN_ZSET and length <= LONGEST
    body = LISTPACK + members * (length + ZSET_ENTRY) * ROUNDED if packed else SKIPLIST + members * (length + NODE)
    return Forecast(1, KEY + shape.prefix + name + body)


def statuses(shape: Shape, calls: float) -> float:
    """How many statuses some calls have, on average."""
    return distinct([(odds, 1) for odds in shape.statuses.values()], calls)


def classes(shape: Shape) -> list[float]:
    """The shares of the status classes that have boards: all but 2xx."""
    shares: dict[int, float] = {}
    for status, share in shape.statuses.items():
        shares[status // 100] = shares.get(status // 100, 0.0) + share
    return [share for family, share in shares.items() if family != 2]


def any_call(calls: float) -> float:
    """How likely there is a call at all."""
    return 1 - exp(-calls) if calls > 1e-12 else 1e-12


def given(calls: float) -> float:
    """How many calls there are, where there are some."""
    return calls / any_call(calls)


def _times(one: Forecast, many: float) -> Forecast:
    return Forecast(one.keys * many, one.bytes * many)
