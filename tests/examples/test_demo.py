"""The demo: what it sends is counted and shown, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually, free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
#: As `python -m examples.demo`, with the calls sent at once.
SCRIPT = """
from examples.demo import __main__, demo
demo.TRAFFIC_SECONDS = 0.1
__main__.demo()
"""
COMMAND = [sys.executable, "-c", SCRIPT]


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def start(home: Path, *options: str) -> subprocess.Popen[str]:
    output = (home / "output").open("w")
    environment = {**os.environ, "TMPDIR": str(home), "COLUMNS": "120"}
    with output:
        return subprocess.Popen([*COMMAND, *options], cwd=ROOT, env=environment, stdout=output, stderr=output, text=True)


def test_demo_counts_all_it_sends_and_ends_in_order(home: Path) -> None:
    port = free_port()
    demo = start(home, "--port", str(port))
    try:
        eventually(lambda: "Serving until Ctrl-C" in (home / "output").read_text() or demo.poll() is not None, 60)
        folders = list(home.glob("usage-demo-*"))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    finally:
        demo.kill()
        demo.wait()
    check_output((home / "output").read_text(), port)
    assert len(folders) == 1
    assert not folders[0].exists()
    assert not listens(port)


def check_output(output: str, port: int) -> None:
    first = output.splitlines()[0]
    assert first == f"Open http://127.0.0.1:{port}/usage/dashboard and sign in with acme-live-storefront"
    assert re.search(r"The 90 days before today are made up: [\d,]{6,} calls, backfilled\.", output)
    sent, counted = re.findall(r"(\d+) calls sent .*?, (\d+) counted", output)[0]
    assert sent == counted
    for view in ("/usage/summary", "/usage/by-key", "/usage/by-group", "/usage/limits"):
        assert f"GET {view}" in output
    acme, globex = (output.split(f"What {name} was alerted of", 1)[1].split("\n\n")[0] for name in ("Acme", "Globex"))
    assert re.search(r"warning: calls: [\d,]+ of [\d,]+ were used, 80 % or more", acme)
    assert "100 %" not in acme
    assert re.search(r"critical: calls: [\d,]+ of 10 were used, 100 % or more", globex)
    assert re.search(r"calls +all keys +[\d,]+ +[\d,]+ a period", output)
    assert re.search(
        r"ZREVRANGE usage:\{acme\}:board:1d:\S+:endpoint:calls 0 4 WITHSCORES\n(?: .+\n)* +GET /v1/geocode +\d+", output
    )
    assert f"'http://127.0.0.1:{port}/usage/by-key'" in output
    assert output.rstrip().endswith("Stopped.")
    assert "Traceback" not in output


def test_demo_says_that_a_port_is_taken(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = start(home, "--port", str(taken.getsockname()[1]))
        assert demo.wait(30) == 1
    assert "is taken; choose another with --port" in (home / "output").read_text()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
