"""`docs/reference/redis-schema.md` says what the code writes: its names, its tables and its worked example."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.docs.pages import Run, blocks
from tests.support import START, Clock, ServerProcess, record_call
from usage_middleware import Usage
from usage_middleware.events import CallKey, CallTotals
from usage_middleware.latency import bin_of
from usage_middleware.options import DEFAULT_RETENTION, Settings
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.history.section import Numbers
from usage_middleware.store.members import OPERATOR, endpoint_member, key_member, org_member
from usage_middleware.store.schema import Schema
from usage_middleware.store.writer import SCHEMA_VERSION, Writer

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "redis-schema.md"
DOCUMENT = PAGE.read_text("utf-8")
SETTINGS = Settings(dimensions=("project",), counters=("records",))


def section(title: str) -> str:
    return DOCUMENT.split(f"{title}\n", 1)[1].split("\n## ", 1)[0]


def fenced(text: str, language: str) -> list[str]:
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, language
    return found[1].splitlines()


def table_rows(text: str, heading: str) -> list[list[str]]:
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def written(server: ServerProcess, namespace: str) -> dict[str, dict[str, int]]:
    """All that the call of the worked example leaves, its namespace written `usage`."""
    schema = Schema(Settings(namespace=namespace, dimensions=SETTINGS.dimensions, counters=SETTINGS.counters))
    key = CallKey(int(START) // 60 * 60, ("acme", "key_7"), "GET /v1/geocode", ("checkout",), 404)
    totals = CallTotals(1, 12345, 512, int(START * 1000), (3,), {bin_of(12345): 1})
    with server.client() as client:
        writer = Writer(lambda: client, schema)
        for org in ("acme", OPERATOR):
            writer.send("worker", Chunk(org, 1, {key: totals}), 0, START)
        names = [name.decode() for name in client.keys(f"{namespace}:*")]
        kept = [name for name in names if name.split(":")[2] in ("series", "board", "seen")]
        return {name.replace(namespace, "usage", 1): content(client, name) for name in kept}


def content(client: redis.Redis, name: str) -> dict[str, int]:
    is_hash = client.type(name) == b"hash"
    pairs: Any = client.hgetall(name).items() if is_hash else client.zrange(name, 0, -1, withscores=True)
    return {field.decode(): int(number) for field, number in pairs}


def test_worked_example_is_what_is_written(written: dict[str, dict[str, int]]) -> None:
    documented: dict[str, dict[str, int]] = {}
    fields: dict[str, int] = {}
    for line in fenced(section("## Worked example"), "text"):
        if line.startswith("    "):
            field, number = line.strip().rsplit(" = ", 1)
            fields[field] = int(number)
        else:
            fields = documented[line] = {}
    assert documented == {name: found for name, found in written.items() if re.match(r"usage:\{acme\}:(\w+:1d|seen):", name)}


def test_first_lines_name_keys_that_are_written(written: dict[str, dict[str, int]]) -> None:
    lines = fenced(section("## Five commands to start with"), "redis")
    assert len(lines) == 5
    assert {line.split()[1] for line in lines} <= written.keys()


def test_first_lines_say_what_the_text_below_them_says(own_server: ServerProcess) -> None:
    """Several keys, endpoints and organisations on the day that the lines name, and on the one before."""
    lines = fenced(section("## Five commands to start with"), "redis")
    with own_server.client() as client:
        writer = Writer(lambda: client, Schema(SETTINGS))
        for number, (org, cells) in enumerate(SOME_CALLS.items(), 1):
            writer.send(f"worker{number}", Chunk(org, 1, cells), 0, START)
            writer.send(f"worker{number}", Chunk(OPERATOR, 1, cells), 0, START)
        month, endpoints, keys, one_key, orgs = (read(client, line) for line in lines)
    calls = [(key, totals.calls) for key, totals in SOME_CALLS["acme"].items() if key.minute >= DAY_OF_LINES]
    assert month["20 calls"] == sum(many for _, many in calls)
    assert month["20 s404"] == sum(many for key, many in calls if key.status == 404)
    assert month["19 calls"] == 3 == sum(totals.calls for totals in SOME_CALLS["acme"].values()) - month["20 calls"]
    assert endpoints == busiest(calls, lambda key: key.endpoint)
    assert len(endpoints) == 10 < len({key.endpoint for key, _ in calls})
    assert keys == busiest(calls, lambda key: key.owner[1])
    of_key_7 = busiest(
        [(key, many) for key, many in calls if key.owner[1] == "key_7"], lambda key: f"calls endpoint {key.endpoint}"
    )
    assert of_key_7.items() <= one_key.items()
    assert one_key["calls project checkout"] == sum(of_key_7.values())
    assert sum(many for name, many in one_key.items() if name.startswith("calls latency ")) == sum(of_key_7.values())
    assert list(orgs) == ["acme", "globex"]
    assert orgs["acme"] == month["20 calls"]


#: 2026-11-20, the day of the five commands.
DAY_OF_LINES = int(START) - int(START) % 86_400


def some_calls(org: str, endpoints: int, minute: int, factor: int) -> dict[CallKey, CallTotals]:
    """Of each endpoint one more than of the one before, by two keys, every third answered 404."""
    found: dict[CallKey, CallTotals] = {}
    for number in range(1, endpoints + 1):
        key = CallKey(minute, (org, f"key_{7 + number % 2}"), f"GET /{number}", ("checkout",), 404 if number % 3 == 0 else 200)
        calls = factor * number
        found[key] = CallTotals(calls, 1_000 * calls, 10 * calls, minute * 1000 + number, (calls,), {bin_of(1_000): calls})
    return found


SOME_CALLS = {
    "acme": {**some_calls("acme", 12, DAY_OF_LINES, 2), **some_calls("acme", 2, DAY_OF_LINES - 60, 1)},
    "globex": some_calls("globex", 3, DAY_OF_LINES + 3600, 1),
}


def read(client: Any, line: str) -> dict[str, int]:
    """What redis-cli prints for a command: names, each with its number below it."""
    reply = client.execute_command(*line.split())
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): int(number) for name, number in pairs}


def busiest(calls: list[tuple[CallKey, int]], name_of: Callable[[CallKey], str]) -> dict[str, int]:
    """Names with their calls, the ten greatest."""
    found = Counter[str]()
    for key, many in calls:
        found[name_of(key)] += many
    return dict(found.most_common(10))


@pytest.mark.parametrize("together", [256 << 10, 0], ids=["small", "large"])
def test_lines_of_python_print_what_was_packed(
    run: Run, together: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a small organisation and of a large one: what is printed of October adds up to what was counted, and is not live."""
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", together)
    (block,) = [block for block in blocks(PAGE, "python") if ":history:2026-10" in block.text]
    assert len(block.text.splitlines()) == 10
    clock = Clock(START - 41 * 86_400)
    with Usage(clock=clock, dimensions=("project",), flush_interval=3600) as usage:
        for number in range(30):
            clock.advance(7_200)
            record_call(
                usage.recorder, ("acme", f"key_{number % 3}"), f"GET /{number % 4}", ("checkout",), latency_us=1_000 + number
            )
            usage.flush()
        clock.set(START)
        usage.pack_history()
        capsys.readouterr()
        sections: Mapping[str, Numbers] = run.block(block)["sections"]
    printed = [f"{name} {entity} {numbers}" for name, found in sorted(sections.items()) for entity, numbers in found.items()]
    assert capsys.readouterr().out.splitlines() == printed
    found = Counter[str]()
    for name, entities in sections.items():
        for entity, numbers in entities.items():
            found[f"{name.partition(' ')[2]} {entity}"] += sum(numbers.get("calls", {}).values())
    assert [found[name] for name in ("series ", "endpoint GET /1", "key 0 key_2")] == [2 * 30, 2 * 8, 2 * 10]


def test_table_of_times_is_right(written: dict[str, dict[str, int]]) -> None:
    for res, slot, block, field in table_rows(DOCUMENT, "| `<res>` |"):
        assert f"usage:{{acme}}:board:{res}:{slot}:key:calls" in written
        assert written[f"usage:{{acme}}:series:{res}:{block}"][f"{field} calls"] == 1


def test_every_key_has_a_documented_shape(written: dict[str, dict[str, int]]) -> None:
    shapes = [row[0] for heading in ("| key | type |",) for row in table_rows(DOCUMENT, heading)] + [
        "<ns>:{<org>}:seen:<dimension>"
    ]
    patterns = [re.sub(r"<\w+>", ".+?", shape.replace("{", r"\{").replace("}", r"\}")) for shape in shapes]
    for name in written:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_names_are_encoded_as_documented() -> None:
    schema = Schema(SETTINGS)
    for name, where, segment in table_rows(DOCUMENT, "| name | where |"):
        if where == "organisation":
            assert schema.tree(org_member(name)) == f"usage:{{{segment}}}"
        elif where == "endpoint":
            endpoint = endpoint_member(*name.split(" ", 1))
            assert schema.series_of("acme", "1d", "2026-11", "endpoint", endpoint).endswith(f":endpoint:{segment}")
        elif where == "key, in a series' key":
            assert schema.series_of("acme", "1d", "2026-11", "key", key_member(name)).endswith(f":key:{segment}")
        else:
            assert schema.key_board("acme", "1d", "2026-11-20", key_member(name)).endswith(f":key:{segment}")


def test_retention_is_as_documented() -> None:
    seconds = {"minutes": 60, "hours": 3600, "days": 86400}

    def parsed(text: str) -> int:
        number, unit = text.split()
        return int(number) * seconds[unit]

    documented = {
        row[1]: dict(zip(("minute", "middle", "day"), map(parsed, row[2:]), strict=True))
        for row in table_rows(DOCUMENT, "| kind | name in `retention` |")
    }
    assert documented == {kind: dict(kept) for kind, kept in DEFAULT_RETENTION.items()}


def test_version_is_as_documented() -> None:
    assert f"`schema` ({SCHEMA_VERSION})" in DOCUMENT
    assert f"version {SCHEMA_VERSION} of the schema" in DOCUMENT
