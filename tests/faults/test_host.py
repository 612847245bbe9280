"""What a host does to its own process: it uses up its file descriptors, closes all of them, changes its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.faults.test_loops import run
from tests.support import ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


_CALLS = """
        import asyncio, resource

        async def call(mine, times=40):
            client = Client(app, mine)
            for _ in range(times):
                await client.call()

        ours = Ledger()
        asyncio.run(call(ours))
        assert usage.flush()
"""


def test_no_file_descriptor_is_left(server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    """No connection can be made then: calls are kept until it can."""
    run(
        _CALLS
        + """
        loop = asyncio.new_event_loop()
        usage.engine.client.connection_pool.disconnect()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        loop.run_until_complete(call(ours))
        assert not usage.flush()
        loop.run_until_complete(call(ours))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        loop.close()
        assert usage.flush()
        usage.close()
        answered(ours)
        """,
        server,
        namespace,
        ledger,
    )


def test_all_file_descriptors_are_closed(server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    """As a process does that becomes a daemon: new connections are made."""
    run(
        _CALLS
        + """
        os.closerange(3, 1000)
        asyncio.run(call(ours))
        usage.flush()
        asyncio.run(call(ours))
        assert usage.flush()
        usage.close()
        answered(ours)
        """,
        server,
        namespace,
        ledger,
    )


def test_the_directory_is_changed(server: ServerProcess, namespace: str, ledger: Ledger, tmp_path: Path) -> None:
    """A spool that was given by a relative path stays where it was."""
    run(
        f"""
        import asyncio

        os.chdir({str(tmp_path)!r})
        away = usage_of("unix:///nowhere/at/all", sys.argv[2], spool="spool", shutdown_timeout=0.1)
        ours = Ledger()

        async def call():
            client = Client(UsageMiddleware(application(), away), ours)
            for _ in range(40):
                await client.call()

        asyncio.run(call())
        os.chdir("/")
        away.close()
        assert len(os.listdir({str(tmp_path / "spool")!r})) == 1
        heir = usage_of(sys.argv[1], sys.argv[2], spool={str(tmp_path / "spool")!r})
        heir.recorder._flusher.recover(lambda: True, now=True)
        heir.close()
        usage.close()
        answered(ours)
        """,
        server,
        namespace,
        ledger,
    )
