"""Commands for redis-cli, with the answers of Redis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

from usage_middleware import Usage
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.schema import Schema

SHOWN = 5
SHOWN_OF_A_KEY = 10
#: The organisations of the example, and that of calls without a key.
ORGS = ("acme", "globex", "default")


def socket_path(usage: Usage) -> str:
    """The path of the embedded server's socket."""
    found = cast("dict[str, str]", usage.engine.client.config_get("unixsocket"))
    return found["unixsocket"]


def top_keys(usage: Usage, org: str, key: str) -> Iterator[tuple[str, list[str]]]:
    """The most useful commands, each with the answer for today."""
    schema, day = Schema(usage.settings), f"{now(usage):%Y-%m-%d}"
    yield hgetall(usage, schema.series(org, "1d", day[:7]))
    yield zrevrange(usage, schema.board(org, "1d", day, "endpoint", "calls"), SHOWN)
    yield zrevrange(usage, schema.board(org, "1d", day, "key", "calls"), SHOWN)
    yield zrevrange(usage, schema.key_board(org, "1d", day, key), SHOWN_OF_A_KEY)
    yield zrevrange(usage, schema.board(OPERATOR, "1d", day, "org", "calls"), SHOWN)


def zrevrange(usage: Usage, board: str, shown: int) -> tuple[str, list[str]]:
    """The command for the first members of a board, and its answer."""
    found = cast("list[tuple[bytes, float]]", usage.engine.client.zrevrange(board, 0, shown - 1, withscores=True))
    return f"ZREVRANGE {board} 0 {shown - 1} WITHSCORES", aligned((name.decode(), int(score)) for name, score in found)


def hgetall(usage: Usage, series: str) -> tuple[str, list[str]]:
    """The command for all fields of a series, and its answer sorted by name."""
    found = cast("dict[bytes, bytes]", usage.engine.client.hgetall(series))
    return f"HGETALL {series}", aligned(sorted((name.decode(), int(number)) for name, number in found.items()))


def aligned(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    """One line a pair, with the numbers in one column."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:{width}}  {number}" for name, number in rows]


def counted(usage: Usage) -> int:
    """The number of calls in Redis this month, of all organisations."""
    schema = Schema(usage.settings)
    series = (schema.series(org, "1d", f"{now(usage):%Y-%m}") for org in ORGS)
    hashes = (cast("dict[bytes, bytes]", usage.engine.client.hgetall(name)) for name in series)
    return sum(int(number) for fields in hashes for name, number in fields.items() if name.endswith(b" calls"))


def now(usage: Usage) -> datetime:
    """The current time, UTC."""
    return datetime.fromtimestamp(usage.clock(), UTC)
