"""The rights that the guide names are enough, and none of them is idle: real users of a real server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.alerts.bench import Bench, Told
from tests.commands import docs, watched
from tests.support import START, Clock, ServerProcess, record_call
from tests.web.conftest import ACME, OPERATOR, OperatorOrKey, put_keys
from tests.web.hosts import HOSTS, Api
from usage_middleware import Plan, Price, Quota, Viewer
from usage_middleware.events import CallKey, CallTotals
from usage_middleware.periods import DAY
from usage_middleware.report.health import health
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.key_directory import KeyDirectory

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]
GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "docker-redis.md").read_text("utf-8")
#: What every connection needs, whether the server is asked for it or not.
CONNECTING = {"hello", "auth", "ping", "select", "client"}


#: What is needed only where an organisation has thousands of viewers.
MANY_VIEWERS = {"hrandfield", "hdel", "hlen"}


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        with watched(server) as sent:
            yield server
        with server.client() as client:
            known = docs(client)
        assert known is None or known.newer_of_all(sent) == set(), "Redis 6.2 does not know this"


def recipe(user: str) -> list[str]:
    """What the guide gives to a user."""
    found = re.search(rf"^redis-cli (ACL SETUSER {user} .*)$", GUIDE, re.MULTILINE)
    assert found
    return shlex.split(found[1])


def url_of(server: ServerProcess, user: str) -> str:
    with server.client() as admin:
        admin.execute_command(*recipe(user))
        admin.execute_command("CONFIG", "RESETSTAT")
    return server.url.replace("unix://", f"unix://{user}:secret@")


def used(server: ServerProcess) -> set[str]:
    """The commands that the server ran, those of scripts too; without ours."""
    with server.client() as admin:
        found: Any = admin.info("commandstats")
        assert not admin.execute_command("ACL", "LOG"), "something was refused"
    return {name.removeprefix("cmdstat_") for name in found} - {"config|resetstat", "acl|setuser", "info"}


def granted(user: str) -> set[str]:
    return {word[1:] for word in recipe(user) if word.startswith("+")}


def base(names: set[str]) -> set[str]:
    return {name.split("|")[0] for name in names}


def test_recording(own_server: ServerProcess, make_usage: MakeUsage, clock: Clock, tmp_path: Path) -> None:
    url = url_of(own_server, "usage-recorder")
    usage = make_usage(
        url, namespace="usage", pepper="outside", dimensions=("project",), counters=("records",), max_members=2, wait_replicas=1
    )
    put_keys(usage)
    assert usage.keys.remove("acme", "key_2")
    for number in range(4):
        record_call(usage.recorder, KeyDirectory.digest(ACME), f"GET /{number}", ("search",), counts=(2**40,))
        record_call(usage.recorder, ("unknown", f"key_{number}"), "GET /", ("search",), counts=(3,))
    usage.flush()
    clock.advance(11)
    record_call(usage.recorder, ("acme", "key_1"), "GET /", ("search",), counts=(2**53,))
    usage.flush()
    send_in_parts(usage, clock)
    rotated = make_usage(url, namespace="usage", pepper=("newer", "outside"))
    assert rotated.keys.find(ACME) is not None
    assert rotated.keys.drop_secret("acme", "key_1", ACME)
    usage.close()
    stats = usage.recorder.stats()
    assert (stats.state, stats.lost, stats.backlog_calls, stats.dropped, stats.blocked) == ("ok", {}, 0, {}, {})
    assert not base(granted("usage-recorder")) - base(used(own_server)) - CONNECTING, "a right is idle"


def test_packing(own_server: ServerProcess, make_usage: MakeUsage, clock: Clock) -> None:
    """With history, the recorder needs some more."""
    url = url_of(own_server, "usage-recorder")
    (more,) = re.findall(r"^redis-cli (ACL SETUSER usage-recorder \+.*)$", GUIDE, re.MULTILINE)
    with own_server.client() as admin:
        admin.execute_command(*shlex.split(more))
    usage = make_usage(url, namespace="usage", pepper="outside", dimensions=("project",), history=True)
    record_call(usage.recorder, ("acme", "key_1"), "GET /", ("search",))
    assert usage.flush()
    clock.advance(40 * 86_400)
    assert usage.pack_history() == 4
    changes: dict[str, Any] = {"calls": -1, "endpoint": "GET /", "status": 200, "tags": {"project": "search"}, "key": "key_1"}
    assert usage.correct("acme", id="c1", at=clock() - 40 * 86_400, reason="a test", **changes)
    assert usage.unpack_history() > 0
    wanted = {word[1:] for word in shlex.split(more) if word.startswith("+")}
    assert not wanted - base(used(own_server)), "a right is idle"


def test_plans_need_the_rights_of_both(own_server: ServerProcess, make_usage: MakeUsage, clock: Clock) -> None:
    """A process that counts looks for thresholds, delivers alerts and makes statements."""
    (more,) = re.findall(r"^redis-cli (ACL SETUSER usage-recorder \+.*)$", GUIDE, re.MULTILINE)
    viewing = [word for word in recipe("usage-viewer") if word.startswith("+")]
    url = url_of(own_server, "usage-recorder")
    with own_server.client() as admin:
        admin.execute_command(*shlex.split(more))
        admin.execute_command("ACL", "SETUSER", "usage-recorder", *viewing)
    quota, price = Quota("records", 10, of="records"), Price("records", of="records", unit="1")
    plan = Plan("pro", quota, prices=[price], currency="EUR")
    options = {"namespace": "usage", "pepper": "outside", "counters": ("records",), "plans": (plan,), "flush_interval": 3600}
    usage, told = make_usage(url, **options), Told()
    usage.plans.assign("acme", "pro")
    bench = Bench(usage, [told], clock)
    record_call(usage.recorder, ("acme", "key_1"), "GET /", counts=(9,))
    assert usage.flush()
    clock.advance(10)
    bench.look()
    assert told.reached == [("records", None, 80)]
    clock.set(1_796_083_200 + 600)  # 1 December
    assert usage.flush()
    clock.advance(10)
    bench.step()
    assert usage.reader.cost(org="acme", period="previous").state == "final"
    assert usage.remaining("acme", "records") is None
    assert not used(own_server) & {"keys", "scan"}


def send_in_parts(usage: Usage, clock: Clock) -> None:
    key = CallKey(int(clock()) // 60 * 60, ("acme", "key_1"), "GET /", ("search",), 200)
    chunk = Chunk("acme", 1, {key: CallTotals(1, 1, 1, int(clock() * 1000), (1,), {0: 1})})
    usage.recorder._flusher._writer.send("f" * 32, chunk, 0, clock(), in_parts=True)


def test_viewing(own_server: ServerProcess, make_usage: MakeUsage, clock: Clock) -> None:
    plan = Plan("free", Quota("records", 100, of="records"), prices=[Price("records", of="records", unit="1")], currency="EUR")
    options: dict[str, Any] = {"namespace": "usage", "dimensions": ("project",), "counters": ("records",)}
    options |= {"plans": (plan,), "default_plan": "free"}
    writing = make_usage(own_server.url, pepper="outside", **options)
    put_keys(writing)
    for number in range(4):
        record_call(writing.recorder, KeyDirectory.digest(ACME), f"GET /{number}", ("search",), counts=(1,))
    assert writing.flush()
    clock.advance(DAY)
    writing.close()
    before = everything(own_server)
    usage = make_usage(url_of(own_server, "usage-viewer"), pepper=("newer", "outside"), **options)
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys)), ACME)
    asked = {
        "endpoints": "include_unused_endpoints=true&",
        "by-group": "group=project&",
        "series": "group=key&",
    }
    for view in VIEWS:
        for query in ("", "key_id=key_1&"):
            reply = api.get(f"{view.path}?{asked.get(view.name, '') + query}")
            assert reply.status in (200, 400, 422), reply.body
        assert api.get(f"{view.path}?{asked.get(view.name, '')}").headers["x-cache"] == "HIT"
    for number in range(70):
        assert api.get(f"/series?limit={number % 50 + 1}&period={'7d' if number < 50 else '30d'}").status == 200
    for path in ("/limits", "/cost"):
        assert api.get(path).status == 200
    assert api.with_key(OPERATOR).get("/health").status == 200
    assert "NOPERM" not in repr(health(usage.reader))
    usage.reader.reconcile("acme")
    assert list(usage.keys.list("acme"))
    assert usage.keys.count("acme") == 2
    usage.close()
    assert not base(granted("usage-viewer")) - base(used_by_viewer(own_server)) - CONNECTING - MANY_VIEWERS, "a right is idle"
    after = everything(own_server)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {name for name in after if b":cache:" in name or name.endswith(b":limits")}


def test_viewing_packed_time(own_server: ServerProcess, make_usage: MakeUsage, clock: Clock) -> None:
    """With the same rights: nothing but answers and limits is written."""
    options: dict[str, Any] = {"namespace": "usage", "dimensions": ("project",), "history": True}
    writing = make_usage(own_server.url, pepper="outside", **options)
    for number in range(4):
        record_call(writing.recorder, ("acme", f"key_{number % 2}"), f"GET /{number}", ("search",))
    assert writing.flush()
    clock.advance(40 * 86_400)
    assert writing.pack_history() == 4
    writing.close()
    before = everything(own_server)
    assert not any(b":series:1d:" in name for name in before)
    usage = make_usage(url_of(own_server, "usage-viewer"), pepper="outside", **options)
    for viewer, calls in ((Viewer.operator(), 4), (Viewer.organization("acme"), 4), (Viewer.key("acme", "key_1"), 2)):
        for zone in ("UTC", "America/New_York"):
            found = usage.reader.series(viewer, start=START - 10 * 86_400, end=START + 86_400, timezone=zone, align="outward")
            assert found.totals["calls"] == calls
            assert (
                usage.reader.summary(viewer, start=START - 10 * 86_400, end=START + 86_400, timezone=zone).total_calls == calls
            )
    usage.close()
    assert {"hmget"} <= used(own_server)
    after = everything(own_server)
    assert {name for name in after if after[name] != before.get(name)} == {name for name in after if b":cache:" in name}


def used_by_viewer(server: ServerProcess) -> set[str]:
    """As `used`. Only to move credentials to a newer pepper may be refused."""
    with server.client() as admin:
        found: Any = admin.info("commandstats")
        refused: Any = admin.execute_command("ACL", "LOG")
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) if isinstance(entry, list) else entry for entry in refused]
    objects = {text(entry.get(b"object", entry.get("object", b""))) for entry in entries}
    assert all("credentials" in name or name in ("sadd", "srem") for name in objects), objects
    return {name.removeprefix("cmdstat_") for name in found}


def text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def everything(server: ServerProcess) -> dict[bytes, Any]:
    with server.client() as admin:
        return {name: admin.dump(name) for name in admin.scan_iter("*")}


ELSEWHERE: tuple[tuple[str | int, ...], ...] = (
    ("GET", "other:x"),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("FLUSHALL",),
    ("CONFIG", "SET", "save", ""),
    ("ACL", "LIST"),
)
WRITES: tuple[tuple[str | int, ...], ...] = (
    ("SET", "usage:{*}:pepper", "x"),
    ("DEL", "usage:{acme}:keys"),
    ("ZADD", "usage:{acme}:seen:key", 1, "x"),
)


@pytest.mark.parametrize(("user", "forbidden"), [("usage-recorder", ELSEWHERE), ("usage-viewer", ELSEWHERE + WRITES)])
def test_nothing_beyond_it(own_server: ServerProcess, user: str, forbidden: tuple[tuple[str | int, ...], ...]) -> None:
    url_of(own_server, user)
    with own_server.client(username=user, password="secret") as client:
        for command in forbidden:
            with pytest.raises(redis.ResponseError):
                client.execute_command(*command)
