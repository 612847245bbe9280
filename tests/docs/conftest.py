"""Fixtures of the tests of the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Run, running
from tests.support import ServerProcess


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """An empty Valkey of the test's own: pages use the default namespace."""
    with ServerProcess() as server:
        yield server


@pytest.fixture
def run(own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the Python of pages. `Usage()` finds the server by its variable, files are written into an empty folder."""
    monkeypatch.setenv("USAGE_REDIS_URL", own_server.url)
    monkeypatch.setenv("USAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with running(own_server.url) as run:
        yield run
