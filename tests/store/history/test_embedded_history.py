"""History with the embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.world import OPTIONS, Call, World
from tests.store.history.packing import NOW, everything
from tests.support import Clock
from usage_middleware import Usage
from usage_middleware.periods import DAY


@pytest.mark.slow
def test_the_embedded_server_packs(tmp_path: Path) -> None:
    options: dict[str, Any] = {**OPTIONS, "history": True, "flush_interval": 3600}
    with Usage(data_dir=tmp_path, clock=Clock(NOW - 40 * DAY), **options) as usage:
        usage.recorder._rounds = None
        lived = World(usage, usage.clock)  # type: ignore[arg-type]
        lived.happen(Call(NOW - 40 * DAY + second) for second in range(5))
        lived.clock.set(NOW)
        before = everything(lived, "acme", 41, 38)
        assert usage.pack_history() == 4
        assert everything(lived, "acme", 41, 38) == before
        assert sum(measures["calls"] for measures in before["1d series"].values()) == 5
        assert usage.unpack_history() > 0
        assert everything(lived, "acme", 41, 38) == before
