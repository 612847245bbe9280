"""A damaged file in the spool costs what is damaged, is named in `/health`, and stops no other file."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec
import pytest

from tests.support import ServerProcess, record_call
from usage_middleware.record.locked_file import MAGIC, LockedFile
from usage_middleware.record.spool import MOST_DAMAGED
from usage_middleware.report.health import health

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]
AWAY = "unix:///nowhere/at/all"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with server.client() as found:
        yield found


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def leave(make_usage: MakeUsage, spool: Path) -> Callable[..., Path]:
    """`leave("acme", calls)`: a process ends without Redis; its file."""

    def make(org: str, calls: int = 1) -> Path:
        before = set(spool.glob("*.calls"))
        usage = make_usage(AWAY, spool=spool, shutdown_timeout=0.01)
        for _ in range(calls):
            record_call(usage.recorder, (org, "key_7"))
        usage.close()
        (found,) = set(spool.glob("*.calls")) - before
        return found

    return make


def recover(usage: Usage) -> None:
    usage.recorder._flusher.recover(lambda: True, now=True)
    usage.flush()


def calls(client: Any, namespace: str, org: str, measure: str = "calls") -> int:
    found: Any = client.hget(f"{namespace}:{{{org}}}:series:1d:2026-11", f"20 {measure}")
    return int(found or 0)


def rewritten(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """The same file, its records changed, their checksums right."""
    file = LockedFile.claim(path)
    assert file is not None
    records = [record for record in file.records() if record is not None]
    file.close()
    LockedFile.create(path, change(records)).close()


def codes(usage: Usage) -> dict[str, str]:
    return {one.code: one.message for one in health(usage.reader).warnings}


def chunk_row(**changed: Any) -> Any:
    row = {"minute": 1_795_182_300, "org": "acme", "key": "key_7", "endpoint": "GET /a", "tags": (), "status": 200, "calls": 1}
    rest = {"latency_us": 1, "sent": 1, "last_ms": 1_795_182_300_000, "counts": (), "bins": {0: 1}}
    return tuple({**row, **rest, **changed}.values())


def entry(*rows: Any) -> bytes:
    """A record with one chunk of these rows."""
    return msgspec.msgpack.encode((1_795_182_320, False, [("acme", 9, list(rows), 0, 1_795_182_320)], [], {}, {}, {}))


BAD_RECORDS = {
    "nothing": b"\xc0",
    "bad utf-8": entry(chunk_row()).replace(b"GET /a", b"GET \xff\xfe"),
    "no record": msgspec.msgpack.encode({"a": 1}),
    "a list of four billion": b"\x97\x00\xc2\xdd\xff\xff\xff\xff",
    "deep": b"\x91" * 100_000,
    "too many tags": entry(chunk_row(tags=("search",))),
    "too many counts": entry(chunk_row(counts=(1, 2))),
    "a huge minute": entry(chunk_row(minute=2**62)),
    "a minute before time": entry(chunk_row(minute=-60)),
    "a huge last call": entry(chunk_row(last_ms=2**62)),
    "negative calls": entry(chunk_row(calls=-5)),
    "huge calls": entry(chunk_row(calls=2**63)),
    "a negative bin": entry(chunk_row(bins={-1: 1})),
    "a huge status": entry(chunk_row(status=10**9)),
    "text for a number": entry(chunk_row(calls="many")),
}


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_damaged_record_costs_itself(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path], bad: bytes
) -> None:
    path = leave("acme", 3)
    leave("globex", 5)
    rewritten(path, lambda records: [*records, bad])
    usage = make_usage(spool=spool)
    recover(usage)
    assert (calls(client, namespace, "acme"), calls(client, namespace, "globex")) == (3, 5)
    assert "spool_damaged" in codes(usage)
    assert path.with_name(path.name + ".damaged").stat().st_mode & 0o777 == 0o600
    stats = usage.recorder.stats()
    assert (stats.state, stats.spool_damaged, stats.spool_calls, stats.lost) == ("ok", 1, 0, {"spool damaged": 1})


BAD_FILES = {
    "empty": b"",
    "not ours": b"usage-middleware calls 2\n" + bytes(100),
    "no header": b"usage-middleware calls 1\n",
    "a header of bad utf-8": b"",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_can_not_be_read_stops_no_other(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path], content: bytes
) -> None:
    path = leave("acme", 3)
    leave("globex", 5)
    if content:
        path.write_bytes(content)
    else:
        rewritten(path, lambda records: [records[0].replace(namespace.encode(), b"\xff" * len(namespace)), *records[1:]])
    usage = make_usage(spool=spool)
    recover(usage)
    recover(usage)
    assert (calls(client, namespace, "acme"), calls(client, namespace, "globex")) == (0, 5)
    assert usage.recorder.stats().spool_damaged == 1
    assert "spool_damaged" in codes(usage)


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_file_stops_no_other(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path], kind: str
) -> None:
    path = leave("acme", 3)
    leave("globex", 5)
    path.rename(path.with_name("elsewhere"))
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        os.mkfifo(path)
    usage = make_usage(spool=spool)
    recover(usage)
    assert (calls(client, namespace, "acme"), calls(client, namespace, "globex")) == (0, 5)
    assert usage.recorder.stats().lost["spool"] == 1


def test_a_flipped_bit_costs_its_record(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path]
) -> None:
    path = leave("acme", 3)
    rewritten(path, lambda records: [records[0], entry(chunk_row()), *records[1:]])
    held = path.read_bytes()
    at = held.index(entry(chunk_row())) + 20
    path.write_bytes(held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :])
    usage = make_usage(spool=spool)
    recover(usage)
    assert calls(client, namespace, "acme") == 3
    assert usage.recorder.stats().spool_damaged == 1


def test_calls_that_a_damaged_record_may_have_numbered_are_dropped_and_counted_as_such(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path]
) -> None:
    path = leave("acme", 3)
    row = (1_795_182_300, ("acme", "key_7"), "GET /a", (), 200, 4, 1, 1, 1_795_182_300_000, (), {0: 4})
    unnumbered = msgspec.msgpack.encode((1_795_182_320, False, [], [row], {}, {}, {}))
    rewritten(path, lambda records: [*records, unnumbered, b"\xc0"])
    usage = make_usage(spool=spool)
    recover(usage)
    assert (calls(client, namespace, "acme"), calls(client, namespace, "acme", "dropped")) == (3, 4)
    assert usage.recorder.stats().dropped == {"acme": 4}


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_huge_file_takes_little_memory(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path], is_whole: bool
) -> None:
    path = leave("acme", 3)
    leave("globex", 5)
    length, checksum = 40_000_000, 0
    for _ in range(40 if is_whole else 0):
        checksum = crc32(bytes(1_000_000), checksum)
    with path.open("ab") as file:
        file.write(length.to_bytes(4, "little") + checksum.to_bytes(4, "little"))
        file.truncate(file.tell() + length)
    usage = make_usage(spool=spool, backlog_bytes=8_000_000)
    tracemalloc.start()
    recover(usage)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert (calls(client, namespace, "acme"), calls(client, namespace, "globex")) == (3, 5)
    assert usage.recorder.stats().spool_damaged == is_whole


def test_only_so_many_damaged_files_are_kept(make_usage: MakeUsage, spool: Path, leave: Callable[..., Path]) -> None:
    kept = leave("acme")
    for number in range(MOST_DAMAGED + 5):
        kept.with_name(kept.name.replace(kept.name.split(".")[1], f"{number:032x}")).write_bytes(MAGIC)
    usage = make_usage(spool=spool)
    recover(usage)
    recover(usage)
    assert len(list(spool.glob("*.damaged"))) == MOST_DAMAGED == usage.recorder.stats().spool_damaged


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "pipe"])
def test_what_is_no_file_stops_nothing(
    make_usage: MakeUsage, client: Any, namespace: str, spool: Path, leave: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    leave("globex", 5)
    other = spool / f"{namespace}.{'0' * 32}.calls"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("nobody's")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: other.symlink_to(elsewhere),
        "dangling link": lambda: other.symlink_to(tmp_path / "nothing"),
        "directory": other.mkdir,
        "pipe": lambda: os.mkfifo(other),
    }
    make[kind]()
    usage = make_usage(spool=spool)
    recover(usage)
    assert calls(client, namespace, "globex") == 5
    assert usage.recorder.stats().spool_damaged == 1
    assert "spool_damaged" in codes(usage)
    other.rmdir() if kind == "directory" else other.unlink()
    recover(usage)
    assert usage.recorder.stats().spool_damaged == 0
    assert elsewhere.read_text() == "nobody's"
