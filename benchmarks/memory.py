"""Memory: bytes in Redis of an organisation's day against the forecast, of cold callers, and of a worker."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks import apps, forecast, forecast_packed
from benchmarks.tables import table
from benchmarks.traffic import STATUSES, Request, Traffic, record, requests
from tests.support import START, Clock, ServerProcess
from usage_middleware.options import DEFAULT_RETENTION, CounterKind
from usage_middleware.periods import DAY

#: 2026-11-20T00:00:00Z.
MIDNIGHT = START - START % DAY
WHOLE = sum(share for _, share in STATUSES)


class Size(NamedTuple):
    """An organisation, and how often it calls on the day that is measured."""

    name: str
    traffic: Traffic
    calls: int
    options: Mapping[str, Any]


SIZES = (
    Size("10 x 10", Traffic(10, 10), 20_000, {}),
    Size("50 x 1,000", Traffic(1_000, 50), 100_000, {}),
    Size("50 x 1,000, Zipf", Traffic(1_000, 50, 1.0), 100_000, {}),
    Size("200 x 10,000", Traffic(10_000, 200), 100_000, {}),
    Size("500 x 100,000", Traffic(100_000, 500), 100_000, {"shards": {"key": 16}, "max_members": {"key": 200_000}}),
)
QUICK = (SIZES[0], SIZES[1]._replace(calls=20_000))


class Held(NamedTuple):
    """Redis keys and bytes."""

    keys: int
    bytes: float


NONE = Held(0, 0.0)


def run(quick: bool) -> str:
    """The tables of this part."""
    return "\n\n".join([_days(QUICK if quick else SIZES), _cold(200 if quick else 2_000), _worker(1 if quick else 10)])


def _days(sizes: tuple[Size, ...]) -> str:
    rows: list[Sequence[object]] = []
    years: list[Sequence[object]] = []
    for size in sizes:
        expected, measured = forecast.day(shape_of(size)), _day(size)
        rows += [
            _row(size.name, f"{res} {kind}", measured.get((res, kind), NONE), one) for (res, kind), one in expected.items()
        ]
        total = Held(sum(one.keys for one in measured.values()), sum(one.bytes for one in measured.values()))
        rows.append(_row(size.name, "**all**", total, forecast.total(expected.values())))
        years.append(_year(size))
    header = ["endpoints x keys", "of one day", "Redis keys", "KB", "forecast, KB", "off"]
    return f"{_DAY}\n\n{table(header, rows)}\n\n{_YEAR}\n\n{table(_YEAR_HEADER, years)}"


_DAY = "What one day of an organisation takes in Redis while all of it is kept, against the forecast:"
_YEAR = "What is held after a year (forecast), packed and with `history=False`, against a row for each request of the year:"
_YEAR_HEADER = [
    "endpoints x keys",
    "calls a day",
    "Redis keys, million",
    "GB",
    "GB without history",
    "a stream entry a request, GB",
    "a sorted-set member a request, GB",
]


def _row(size: str, kind: str, held: Held, expected: forecast.Forecast) -> Sequence[object]:
    return size, kind, f"{held.keys:,}", _kb(held.bytes), _kb(expected.bytes), _off(expected.bytes, held.bytes)


def _year(size: Size) -> Sequence[object]:
    held, unpacked = forecast_packed.a_year(shape_of(size)), forecast.kept(shape_of(size), DEFAULT_RETENTION)
    rows = (taken * size.calls * 365 for taken in _row_per_request(size))
    return size.name, f"{size.calls:,}", f"{held.keys / 1e6:.2f}", _gb(held.bytes), _gb(unpacked.bytes), *map(_gb, rows)


def _gb(number: float) -> str:
    return f"{number / 1e9:.2f}"


def _kb(number: float) -> str:
    return f"{number / 1000:,.0f}"


def _off(expected: float, found: float) -> str:
    return f"{expected / found - 1:+.0%}" if found else ""


def shape_of(size: Size) -> forecast.Shape:
    """What the forecast is told of an organisation."""
    traffic = size.traffic
    return forecast.Shape(
        endpoints=forecast.zipf(traffic.endpoints),
        keys=forecast.zipf(traffic.keys, traffic.skew) if traffic.skew else forecast.even(traffic.keys),
        calls=size.calls,
        dimensions=[forecast.even(traffic.projects)],
        counters=1,
        statuses={status: share / WHOLE for status, share in STATUSES},
        prefix=len("memory:{acme}"),
    )


def _day(size: Size) -> dict[tuple[str, CounterKind], Held]:
    """Count one day's calls as a recorder does, and look at what each kind takes."""
    clock = Clock(MIDNIGHT)
    with ServerProcess() as server, server.client() as client:
        options = {"namespace": "memory", "flush_interval": 1e9, "operator_tree": False, "clock": clock, **size.options}
        with apps.new_usage(server.url, **options) as usage:
            usage.flush()
            before = client.info("memory")["used_memory"]
            for number, call in enumerate(requests(size.traffic, size.calls)):
                clock.set(MIDNIGHT + number * DAY / size.calls)
                record(usage.recorder, "acme", call)
                if number % (size.calls // 48) == 0:  # often enough that no counter is late for its retention
                    usage.flush()
            usage.flush()
        used = client.info("memory")["used_memory"] - before
        return _shared(_held(client, b"memory:{acme}:"), used, client.dbsize())


def _shared(held: dict[tuple[str, CounterKind], Held], used: int, keys: int) -> dict[tuple[str, CounterKind], Held]:
    """What MEMORY USAGE does not say of a key, its place in the dictionaries, is shared out evenly."""
    rest = (used - sum(one.bytes for one in held.values())) / keys
    return {kind: Held(one.keys, one.bytes + rest * one.keys) for kind, one in held.items()}


def _held(client: Any, prefix: bytes) -> dict[tuple[str, CounterKind], Held]:
    found: dict[tuple[str, CounterKind], Held] = {}
    names = list(client.scan_iter(match=prefix + b"*", count=5_000))
    for begin in range(0, len(names), 1_000):
        some = names[begin : begin + 1_000]
        for name, taken in zip(some, _usages(client, some), strict=True):
            kind = _kind(name)
            if kind is not None:
                before = found.get(kind, NONE)
                found[kind] = Held(before.keys + 1, before.bytes + taken)
    return found


def _usages(client: Any, names: list[bytes]) -> list[int]:
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.execute_command("MEMORY", "USAGE", name, "SAMPLES", 0)
        return [int(taken) for taken in pipe.execute()]


def _kind(name: bytes) -> tuple[str, CounterKind] | None:
    """The resolution and kind of a counter; None of the registry and the like."""
    _, _, after = name.decode().partition("}:")
    family, res, rest = [*after.split(":", 2), "", ""][:3]
    under = rest[7 if family == "series" and res == "1d" else 16 if res == "1m" or (res, family) == ("30m", "board") else 10 :]
    if family == "series":
        return res, "endpoint" if under.startswith(":endpoint:") else "key" if under.startswith(":key:") else "series"
    if family != "board":
        return None
    return res, "key_board" if under.startswith(":key:key_") else "board"


def _row_per_request(size: Size) -> tuple[float, float]:
    """Bytes of a request: as an entry of a stream, and as a member of a sorted set."""
    sample = list(requests(size.traffic, 5_000))
    with ServerProcess() as server, server.client() as client:
        return _stream(client, sample), _rows(client, sample)


def _stream(client: Any, sample: list[Request]) -> float:
    with client.pipeline(transaction=False) as pipe:
        for number, call in enumerate(sample):
            pipe.xadd("stream", call._asdict(), id=f"{int(MIDNIGHT) * 1000 + number * 17}-0")
        pipe.execute()
    return float(client.memory_usage("stream", samples=0)) / len(sample)


def _rows(client: Any, sample: list[Request]) -> float:
    with client.pipeline(transaction=False) as pipe:
        for number, call in enumerate(sample):
            pipe.zadd("rows", {msgspec.json.encode([number, *call]): MIDNIGHT * 1000 + number * 17})
        pipe.execute()
    return float(client.memory_usage("rows", samples=0)) / len(sample)


def _cold(organisations: int) -> str:
    """Organisations of five keys that call a few times a day."""
    clock = Clock(MIDNIGHT + 36_000)
    options: Mapping[str, Any] = {"namespace": "cold", "flush_interval": 1e9, "operator_tree": False, "clock": clock}
    with ServerProcess() as server, server.client() as client:  # noqa: SIM117 - the client outlives the usage
        with apps.new_usage(server.url, **options) as usage:
            first = _one_call(usage, client, clock, "cold0000")
            calls = cycle(requests(Traffic(5, 20, projects=1), 3_000))
            before = client.info("memory")["used_memory"], client.dbsize()
            for number in range(organisations):
                for call in islice(calls, 3):
                    clock.advance(0.9)
                    record(usage.recorder, f"org{number:06d}", call)
                if number % 100 == 0:
                    usage.flush()
            usage.flush()
            usage.recorder.close()
            used, keys = client.info("memory")["used_memory"] - before[0], client.dbsize() - before[1]
    each = used / organisations
    rows = [["one call of a new organisation: Redis keys", f"{first['keys']}", "45"],
            ["and their KB", f"{first['bytes'] / 1000:.1f}", "9"],
            ["of which outlive 9 days, KB", f"{first['kept'] / 1000:.1f}", "2.5"],
            ["its registry (once, not a day), KB", f"{first['registry'] / 1000:.1f}", ""],
            ["an organisation of 5 keys with 3 calls a day: Redis keys", f"{keys / organisations:.0f}", ""],
            ["and their KB", f"{each / 1000:.1f}", ""],
            ["100,000 of them, GB a day before anything expires", f"{each * 100_000 / 1e9:.1f}", ""]]  # fmt: skip
    measured = f"Cold callers, {organisations:,} organisations measured:\n\n{table(['', 'measured', 'target'], rows)}"
    return f"{measured}\n\n{_cold_year()}"


def _cold_year() -> str:
    """What cold organisations come to in a year, and what shorter retention saves."""
    statuses = {status: share / WHOLE for status, share in STATUSES}
    shape = forecast.Shape(forecast.even(20), forecast.even(5), 3, [forecast.even(1)], counters=1, statuses=statuses)
    shorter: list[tuple[str, dict[CounterKind, int]]] = [
        ("default retention, without history", {}),
        ("days of keys' boards for 31 days", {"key_board": 31}),
        ("days of boards for 92 days, too", {"board": 92}),
        ("days of endpoints' and keys' series for 92 days, too", {"endpoint": 92, "key": 92}),
    ]
    retention = {kind: dict(layers) for kind, layers in DEFAULT_RETENTION.items()}
    packed = [(f"history, `history_after` of {days} days", forecast_packed.a_year(shape, days)) for days in (35, 9)]
    rows = [_of_many(name, held) for name, held in packed]
    for name, days in shorter:
        for kind, kept in days.items():
            retention[kind]["day"] = kept * DAY
        rows.append(_of_many(name, forecast.kept(shape, retention)))
    text = "What 100,000 organisations of 5 keys hold after a year in which each makes 3 calls on every day (forecast):"
    return f"{text}\n\n{table(['', 'Redis keys, million', 'GB'], rows)}"


def _of_many(name: str, held: forecast.Forecast) -> list[str]:
    return [name, f"{held.keys * 100_000 / 1e6:.0f}", _gb(held.bytes * 100_000)]


def _one_call(usage: Any, client: Any, clock: Clock, org: str) -> dict[str, float]:
    record(usage.recorder, org, next(requests(Traffic(1, 1), 1)))
    usage.flush()
    names = list(client.scan_iter(match=f"cold:{{{org}}}:*", count=5_000))
    counted = [name for name in names if _kind(name) is not None]
    rest = [name for name in names if b":seen:" in name]
    taken = dict(zip(counted, _usages(client, counted), strict=True))
    clock.advance(1)
    kept = sum(size for name, size in taken.items() if client.ttl(name) > 10 * DAY)
    return {"keys": len(counted), "bytes": sum(taken.values()), "kept": kept, "registry": sum(_usages(client, rest))}


def _worker(millions: int) -> str:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        sizes = pool.apply(_resident, (millions,))
    header = ["calls", *sizes]
    return "Resident memory of a worker, MB (100 keys by 20 endpoints, flushed every 250,000 calls):\n\n" + table(
        header, [["MB", *(f"{size:.0f}" for size in sizes.values())]]
    )


def _resident(millions: int) -> dict[str, float]:
    clock = Clock(MIDNIGHT)
    found: dict[str, float] = {}
    with ServerProcess() as server, apps.new_usage(server.url, namespace="rss", flush_interval=1e9, clock=clock) as usage:
        calls = list(requests(Traffic(100), 250_000))
        for number in range(4 * millions):
            for call in calls:
                record(usage.recorder, "acme", call)
            clock.advance(5)
            usage.flush()
            if number + 1 in _marks(4 * millions):
                found[f"{(number + 1) / 4:g} million"] = _rss()
    return found


def _marks(last: int) -> Iterator[int]:
    return iter(sorted({1, 2, 4, last // 2, last}))


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
