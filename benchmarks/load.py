"""Load on a server of this machine: by wrk where it is installed, else by our own client."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which
from typing import NamedTuple

import msgspec

from benchmarks.apps import KINDS

CONNECTIONS = 16
#: No load is waited for longer, seconds.
_MOST_SECONDS = 120

_SCRIPT = """
local turn, kinds, keys = %d, {%s}, %d
request = function()
  turn = turn + 31
  local key = string.format('sk_%%026d', turn %% keys)
  return wrk.format('GET', '/v1/' .. kinds[math.floor(turn / keys) %% #kinds + 1] .. '/7', {['x-api-key'] = key})
end
done = function(summary, latency, requests)
  io.write(string.format('[%%f,%%f,%%f,%%f,%%f]\\n', summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, latency.max / 1000))
end
"""


class Load(NamedTuple):
    """The result of a load: requests a second, and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    p999: float
    worst: float


def tool() -> str:
    """The name of the load generator."""
    return "wrk" if which("wrk") else "our own client"


def load(port: int, seconds: float, keys: int) -> Load:
    """Send requests to a server of this machine for this many seconds, with `keys` API keys in turn."""
    command = [sys.executable, "-m", "benchmarks.client", str(port), str(CONNECTIONS), str(keys), str(seconds)]
    if which("wrk") is None:
        return _run(command)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(_SCRIPT % (1, ", ".join(f"'{kind}'" for kind in KINDS), keys))
        url = f"http://127.0.0.1:{port}"
        return _run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "-s", str(script), url])


def _run(command: list[str]) -> Load:
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_MOST_SECONDS).stdout
    return Load(*msgspec.json.decode(shown.strip().splitlines()[-1], type=list[float]))
