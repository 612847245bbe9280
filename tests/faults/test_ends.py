"""Every wait for Redis has an end, and so has a process: whatever Redis says, and however slowly."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.faults.calling import Callers
from tests.faults.conftest import MakeWorld
from tests.faults.harness import ServerWorld, World, usage_of
from tests.faults.proxy import Proxy
from tests.faults.webserver import environment
from tests.faults.workplace import Workplace
from tests.serving import serving
from tests.support import ClusterProcess, ServerProcess, Stopwatch, eventually, free_port
from tests.web.conftest import ACME, OPERATOR, OperatorOrKey, put_keys
from tests.web.hosts import HOSTS, Api
from usage_middleware import Usage, Viewer
from usage_middleware.report.health import health
from usage_middleware.report.reports import VIEWS

pytestmark = pytest.mark.slow

WSGI = HOSTS[4]
#: So many bytes a second that each comes long before the limit of a read, and all of them long after it.
TRICKLE = 8


@contextmanager
def takes_less_than(seconds: float) -> Iterator[None]:
    """Fail if what is inside takes longer."""
    watch = Stopwatch()
    yield
    took = watch.seconds
    assert took < seconds, f"{took:.1f} s"


def sent_by_the_next_process(url: str, namespace: str, spool: Path | str) -> None:
    """A process finds what another left, and sends it."""
    with usage_of(url, namespace, spool=str(spool)) as heir:
        eventually(heir.flush)
        heir.recorder._flusher.recover(lambda: True, now=True)


def trickling(world: ServerWorld) -> None:
    """Each reply comes, byte by byte, and none of them is late: no single read ever times out."""
    world.proxy.rate = TRICKLE
    world.traffic.go_on_for(1)


def unavailable(api: Api, path: str = "/summary") -> None:
    """A 503, within two seconds."""
    with takes_less_than(2):
        assert api.get(path).status == 503


def answers(api: Api) -> bool:
    """Whether a view works."""
    return api.get("/summary").status == 200


def is_later_than(moment: float) -> bool:
    """Whether a moment of `time.monotonic` is over."""
    return time.monotonic() > moment


def test_replies_of_a_byte_a_second_do_not_hold_up_a_flush(make_world: MakeWorld) -> None:
    world = make_world()
    trickling(world)
    world.is_away()
    with takes_less_than(3):
        assert not world.usage.flush()
    world.proxy.forgive()
    world.proxy.hang_up()
    world.check()


def test_replies_of_a_byte_a_second_do_not_hold_up_the_end(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(spool=str(tmp_path), shutdown_timeout=1.0)
    trickling(world)
    world.traffic.stop()
    with takes_less_than(2.5):
        world.usage.close()
    assert len(list(tmp_path.iterdir())) == 1
    world.proxy.forgive()
    sent_by_the_next_process(world.server.url, world.namespace, tmp_path)
    world.check_stored()


def test_replies_of_a_byte_a_second_are_a_503_within_two_seconds(
    server: ServerProcess, make_usage: Callable[..., Usage]
) -> None:
    put_keys(make_usage())
    with Proxy(server.port) as proxy:
        usage = make_usage(proxy.url, shutdown_timeout=0.1)
        by_key = Api(WSGI, WSGI.make(usage, auth=OperatorOrKey(usage.keys)), ACME)
        by_callable = Api(WSGI, WSGI.make(usage, auth=lambda _: Viewer.organization("acme")))
        operator = Api(WSGI, WSGI.make(usage, auth=OperatorOrKey(usage.keys)), OPERATOR)
        assert by_key.get("/summary").status == 200
        proxy.rate = TRICKLE
        for view in VIEWS:
            unavailable(by_key, view.path)
        unavailable(by_callable)
        with takes_less_than(2):
            assert operator.get("/health").json["status"] == "failing"
        fresh = make_usage(proxy.url, shutdown_timeout=0.1)
        unavailable(Api(WSGI, WSGI.make(fresh, auth=OperatorOrKey(fresh.keys)), ACME))
        proxy.forgive()
        eventually(partial(answers, by_key))


@pytest.fixture
def silent_cluster() -> Iterator[ClusterProcess]:
    with ClusterProcess() as running:
        yield running
        for node in running.nodes:
            node.resume()


def test_a_fresh_process_on_a_silent_cluster_answers_within_two_seconds(
    silent_cluster: ClusterProcess, make_usage: Callable[..., Usage]
) -> None:
    url = ",".join([silent_cluster.url, *(f"127.0.0.1:{node.port}" for node in silent_cluster.nodes[1:])])
    usage, fresh = make_usage(url, shutdown_timeout=0.1), make_usage(url, shutdown_timeout=0.1)
    put_keys(usage)
    apis = [Api(WSGI, WSGI.make(one, auth=OperatorOrKey(one.keys)), ACME) for one in (usage, fresh)]
    assert apis[0].get("/summary").status == 200
    for node in silent_cluster.nodes:
        node.pause()
    for api in apis:
        unavailable(api)
    for node in silent_cluster.nodes:
        node.resume()
    for api in apis:
        eventually(partial(answers, api))


def test_a_silent_cluster_at_the_end_loses_nothing_with_a_spool(
    silent_cluster: ClusterProcess, namespace: str, tmp_path: Path
) -> None:
    url = ",".join([silent_cluster.url, *(f"127.0.0.1:{node.port}" for node in silent_cluster.nodes[1:])])
    world = World(namespace, url, silent_cluster.client, spool=str(tmp_path), shutdown_timeout=1.0)
    world.start()
    for node in silent_cluster.nodes:
        node.pause()
    world.traffic.go_on(200)
    world.traffic.stop()
    with takes_less_than(2.5):
        world.usage.close()
    for node in silent_cluster.nodes:
        node.resume()
    sent_by_the_next_process(url, namespace, tmp_path)
    world.check_stored()


def test_a_silent_embedded_server_is_a_503_within_two_seconds(
    make_usage: Callable[..., Usage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USAGE_REDIS_URL", raising=False)
    usage = make_usage(None, data_dir=tmp_path, shutdown_timeout=0.1)
    put_keys(usage)
    fresh = make_usage(None, data_dir=tmp_path, shutdown_timeout=0.1)
    pid = int((tmp_path / "valkey.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        for one in (usage, fresh):
            unavailable(Api(WSGI, WSGI.make(one, auth=OperatorOrKey(one.keys)), ACME))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_fork_does_not_wait_for_a_silent_redis(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.pause()
    world.is_away()
    took = []
    with world.traffic.paused():
        for _ in range(20):
            began, watch = time.monotonic(), Stopwatch()
            child = os.fork()
            if child == 0:
                os._exit(0)
            took.append(watch.seconds)
            os.waitpid(child, 0)
            eventually(partial(is_later_than, began + 0.05))
    world.server.resume()
    # It may meet a flush that is computing, but not again and again.
    assert sorted(took)[-4] < 0.1, took
    world.check()


@pytest.mark.parametrize("again", [0.02, 0.3])
@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn"])
def test_a_second_signal_does_not_cost_what_the_first_was_saving(
    place: Workplace, tmp_path: Path, kind: str, again: float
) -> None:
    pytest.importorskip(kind)
    port, spool = free_port(), str(tmp_path / "spool")
    options = {
        "uvicorn": ["--port", str(port), "--no-access-log"],
        "hypercorn": ["--bind", f"127.0.0.1:{port}", "--workers", "2"],
    }[kind]
    variables = environment(place.proxy.url, place.namespace, spool=spool)
    with serving([sys.executable, "-m", kind, "tests.faults.served:app", *options], port, **variables) as running:
        with Callers(port, ledger=place.ledger) as callers:
            callers.go_on()
            place.server.pause()
            callers.go_on()
        running.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        eventually(partial(is_later_than, began + again))
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
        running.process.wait(60)
    place.server.resume()
    sent_by_the_next_process(place.server.url, place.namespace, spool)
    place.check()


def test_a_spool_that_can_not_be_written_is_told_at_once(
    make_world: MakeWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    world = make_world(spool=str(tmp_path / "file" / "spool"))
    eventually(lambda: "Not a directory" in world.usage.recorder.stats().spool_error)
    assert caplog.text.count("calls can't be put on disk") == 1
    (warned,) = eventually(lambda: [one for one in health(world.usage.reader).warnings if one.code == "spool_unwritable"])
    assert "set spool to another directory" in warned.message
    (tmp_path / "file").unlink()
    world.usage.recorder._flusher.recover(lambda: True, now=True)
    assert not world.usage.recorder.stats().spool_error
    world.check()


def test_a_full_disk_costs_only_the_journal(make_world: MakeWorld, tmp_path: Path) -> None:
    """No file of this process may grow beyond a few bytes: the disk's error is told, and every call is counted all the same."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    world = make_world(spool=str(tmp_path), journal=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        world.traffic.go_on()
        eventually(lambda: world.usage.recorder.stats().lost.get("journal"))
        world.usage.recorder._flusher.recover(lambda: True, now=True)
        assert "File too large" in world.usage.recorder.stats().spool_error
        world.finish_abandoned()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    world.check_stored()


@pytest.mark.parametrize("command", ["hsetnx", "expire", "time"])
def test_a_right_that_counting_does_not_need_is_one_line_a_minute(
    make_world: MakeWorld, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world()
    caplog.clear()
    with world.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "default", f"-{command}")
        for _ in range(20):
            world.traffic.go_on(10)
            assert world.usage.flush()
        assert world.state == "ok"
        world.check()
    told = [one.getMessage() for one in caplog.records if one.name == "usage_middleware"]
    assert len(told) <= 1, told


def test_without_rights_to_the_shared_keys_organisations_are_counted(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(operator_tree=False)
    caplog.clear()
    with world.admin() as admin:
        allowed = [f"~{world.namespace}:{{{org}}}:*" for org in ("acme", "globex", "initech")]
        shared = rf"%R~{world.namespace}:{{\*}}:*"
        admin.execute_command("ACL", "SETUSER", "default", "resetkeys", *allowed, shared)
        for _ in range(20):
            world.traffic.go_on(10)
            eventually(world.usage.flush)
    told = [one.getMessage() for one in caplog.records if one.name == "usage_middleware"]
    assert len([line for line in told if "does not allow" in line]) == 1, told
    with world.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "allkeys")
