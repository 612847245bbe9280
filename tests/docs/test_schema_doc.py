"""`docs/reference/redis-schema.md` says what the code writes: its names, its tables and its worked example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import START, ServerProcess
from usage_middleware.events import CallKey, CallTotals
from usage_middleware.latency import bin_of
from usage_middleware.options import DEFAULT_RETENTION, Settings
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.members import OPERATOR, endpoint_member, key_member, org_member
from usage_middleware.store.schema import Schema
from usage_middleware.store.writer import SCHEMA_VERSION, Writer

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reference" / "redis-schema.md").read_text("utf-8")
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
