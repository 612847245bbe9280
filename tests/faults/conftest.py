"""`make_world`: a world of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.harness import IMPATIENT, ServerWorld
from tests.faults.proxy import Proxy
from tests.faults.workplace import Workplace
from tests.support import ServerProcess
from usage_middleware.store import engine

#: It is an application, set up by variables, for processes of its own.
collect_ignore = ["served.py"]

MakeWorld = Callable[..., ServerWorld]


@pytest.fixture
def unhurried() -> None:
    """An answer may take as long as it may in production."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WRITE_LIMITS", IMPATIENT)


@pytest.fixture
def make_world(namespace: str) -> Iterator[MakeWorld]:
    """`make_world(server={...}, **options)`: options of valkey.conf, and of `Usage`; its traffic runs."""
    with ExitStack() as ending:

        def make(server: dict[str, str | int] | None = None, **options: Any) -> ServerWorld:
            running = ending.enter_context(ServerProcess(**(server or {})))
            proxy = ending.enter_context(Proxy(running.port))
            world = ServerWorld(running, proxy, namespace, **options)
            ending.callback(world.close)
            world.start()
            return world

        yield make


@pytest.fixture
def place(namespace: str) -> Iterator[Workplace]:
    """Where workers in processes of their own count."""
    with ExitStack() as ending:
        server = ending.enter_context(ServerProcess())
        proxy = ending.enter_context(Proxy(server.port))
        yield Workplace(server, proxy, namespace)
