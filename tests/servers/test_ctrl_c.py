"""1,500 requests, then Ctrl-C: each is counted, on every server and type of worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.ledger import OPERATOR
from tests.faults.workplace import Workplace
from tests.servers.kinds import KINDS, Kind
from tests.servers.test_signals import FLUSH_INTERVAL, REQUESTS, call, served
from tests.support import eventually, free_port

pytestmark = pytest.mark.slow


@contextmanager
def resting(kind: Kind) -> Iterator[tuple[Kind, Callable[[], bool]]]:
    """How a server is started that can be asked whether it has nothing to do; and the question. Only uWSGI has to be asked.

    Its workers are at work for a moment after an answer was sent. One that Ctrl-C meets then ends without `atexit`.
    """
    if kind.package != "pyuwsgi":
        yield kind, lambda: True
        return
    port = free_port()

    def rests() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile() as told:
            return all(worker["status"] == "idle" for worker in json.load(told)["workers"])

    yield replace(kind, words=(*kind.words, "--stats", f"127.0.0.1:{port}")), rests


@pytest.mark.parametrize("name", KINDS)
def test_ctrl_c(place: Workplace, tmp_path: Path, name: str) -> None:
    """To all of its processes, as a terminal sends it."""
    kind = KINDS[name]
    if not kind.is_installed:
        pytest.skip(f"{kind.package} is not installed")
    with resting(kind) as (kind, rests), served(kind, place, tmp_path / "log") as (process, port):
        call(port, place)
        eventually(rests, 60)
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(10 if kind.may_stay else 60)
        except subprocess.TimeoutExpired:
            assert kind.may_stay
            eventually(lambda: place.stored(OPERATOR) == REQUESTS, FLUSH_INTERVAL + 30)
        assert place.stored(OPERATOR) == REQUESTS or kind.lost_at_ctrl_c, (tmp_path / "log").read_text()
