"""`final` while calls are on disk: a worker that could not deliver keeps its window open until its spool is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import Clock, ServerProcess, eventually, record_call
from usage_middleware import Usage

#: It starts a server of its own.
pytestmark = pytest.mark.slow
SLOT = 1800


def test_a_spool_keeps_a_window_open_until_it_is_in(tmp_path: Path) -> None:
    clock = Clock()
    start = int(clock()) // SLOT * SLOT
    with ServerProcess(appendonly="yes", appendfsync="always") as server:
        first = Usage(server.url, spool=tmp_path, clock=clock, flush_interval=1e6, shutdown_timeout=0.2)
        record_call(first.recorder)
        assert first.flush()
        record_call(first.recorder)
        server.stop()
        first.close()
        server.start()
        clock.advance(SLOT * 2)
        with Usage(server.url, clock=clock) as reader:
            asked: dict[str, Any] = {"org": "acme", "start": start, "end": start + SLOT}
            before = reader.reader.summary(**asked)
            assert (before.total_calls, before.final) == (1, False)
            with Usage(server.url, spool=tmp_path, clock=clock, flush_interval=0.05) as second:
                record_call(second.recorder, ("globex", "key_1"))
                eventually(lambda: reader.reader.summary(**asked).final)
            assert reader.reader.summary(**asked).total_calls == 2
