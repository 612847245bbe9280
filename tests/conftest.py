"""Fixtures of all tests: a real Valkey, a real cluster, a namespace and a clock for each test, and `make_usage`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Clock, ClusterProcess, ServerProcess

if TYPE_CHECKING:
    from usage_middleware import Usage


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A Valkey that all tests share. Tests keep apart by `namespace`; none flushes, stops or pauses it."""
    with ServerProcess() as running:
        yield running


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
