"""`place`: where servers count."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy
from tests.faults.workplace import Workplace
from tests.support import ServerProcess

#: Programs, which set a process up.
collect_ignore = ["lingering.py", "manage.py", "plain.py"]


@pytest.fixture(scope="module")
def own_server() -> Iterator[ServerProcess]:
    """A Valkey for the tests of a module. They keep apart by `namespace`."""
    with ServerProcess() as running:
        yield running


@pytest.fixture
def place(own_server: ServerProcess, namespace: str) -> Iterator[Workplace]:
    """Where servers in processes of their own count."""
    with Proxy(own_server.port) as proxy:
        yield Workplace(own_server, proxy, namespace)
