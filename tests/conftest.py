"""Fixtures of all tests (a real Valkey, a real cluster, a namespace, a clock, `make_usage`), and which tests are slow."""

from __future__ import annotations

import gc
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import docs, used
from tests.support import Clock, ClusterProcess, ServerProcess

if TYPE_CHECKING:
    from usage_middleware import Usage

#: Fixtures that start a server. Tests that use one are marked `slow` here, others that start a process mark themselves.
SERVERS = frozenset({"server", "cluster", "make_world", "own_server", "place"})
#: What Python calls the start of a process: https://docs.python.org/3/library/audit_events.html
PROCESS_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.posix_spawn"})

_is_fast = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a run of the tests can be asked to do besides."""
    parser.addoption("--pictures", action="store_true", help="take the pictures of the page in docs/images again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a server, so that `-m "not slow"` starts none."""
    for item in items:
        if isinstance(item, pytest.Function) and SERVERS & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What was imported stays. Tests that call the garbage collector need not wait until it has looked at all of that."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def processes_only_in_slow_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process and is not marked `slow`."""
    global _is_fast
    _is_fast = request.node.get_closest_marker("slow") is None
    yield
    _is_fast = False


def _refuse_processes(event: str, _: tuple[object, ...]) -> None:
    if _is_fast and event in PROCESS_STARTS:
        raise RuntimeError(f"{event} in a fast test: mark the test with pytest.mark.slow")


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no answer late. Tests of how long one takes have a fixture of this name that does nothing."""
    if "usage_middleware.web" in sys.modules:
        monkeypatch.setattr("usage_middleware.web.handler.ANSWER_SECONDS", 30)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A Valkey that all tests share. Tests keep apart by `namespace`; none flushes, stops or pauses it.

    At the end it must have been sent nothing that Redis 6.2 does not know.
    """
    with ServerProcess() as running:
        yield running
        with running.client() as client:
            known = docs(client)
            assert known is None or known.newer_of_all(used(client)) == set()


@pytest.fixture(scope="session")
def redis_url(server: ServerProcess) -> str:
    """The URL of the shared server."""
    return server.url


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterProcess]:
    """A cluster of three primaries that all tests share."""
    with ClusterProcess() as running:
        yield running


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def clock() -> Clock:
    """2026-11-20T13:45:20Z until the test moves it."""
    return Clock()


@pytest.fixture
def make_usage(redis_url: str, namespace: str, clock: Clock) -> Iterator[Callable[..., Usage]]:
    """`make_usage(**options)`: a `Usage` on the shared server with this test's namespace and clock, closed at the end."""
    from usage_middleware import Usage

    made: list[Usage] = []

    def make(redis: Any = redis_url, **options: Any) -> Usage:
        made.append(Usage(redis, **{"namespace": namespace, "clock": clock, **options}))
        return made[-1]

    yield make
    for usage in made:
        usage.close()
