"""Asks a Redis or Valkey what it did: CPU, memory, the slowest command."""

from __future__ import annotations

from typing import Any, NamedTuple


class Work(NamedTuple):
    """What a server did between two looks: microseconds of CPU, of that in scripts, and how long its slowest command took."""

    cpu_us: float
    script_us: float
    slowest_us: int


class Probe:
    """One server."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.config_set("slowlog-log-slower-than", 200)
        client.config_set("slowlog-max-len", 5_000)
        self.restart()

    def restart(self) -> None:
        """Forget what was before."""
        self.client.slowlog_reset()
        self._cpu, self._script = self._used()

    def work(self) -> Work:
        """What it did since."""
        cpu, script = self._used()
        return Work(cpu - self._cpu, script - self._script, self.slowest()[0])

    def slowest(self) -> tuple[int, str]:
        """The microseconds of the slowest command, and its name; 0 where none took more than 200."""
        entries = self.client.slowlog_get(5_000)
        found = [(int(entry["duration"]), entry["command"].split(b" ", 1)[0].decode()) for entry in entries]
        return max(found, default=(0, ""))

    def memory(self) -> int:
        """Bytes that all data take."""
        return int(self.client.info("memory")["used_memory_dataset"])

    def keys(self) -> int:
        """How many Redis keys there are."""
        return int(self.client.dbsize())

    def _used(self) -> tuple[float, float]:
        cpu = self.client.info("cpu")
        stats = self.client.info("commandstats")
        script = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("evalsha", "eval"))
        return (cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6, float(script)
