"""Reads what a Redis or Valkey has done: CPU, memory, the slowest command."""

from __future__ import annotations

from typing import Any, NamedTuple


class Work(NamedTuple):
    """What a server did in a period: CPU in microseconds, scripts' part of it, and the duration of its slowest command."""

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
        """Start a new period."""
        self.client.slowlog_reset()
        self._cpu, self._script = self._used()

    def work(self) -> Work:
        """What the server did in this period."""
        cpu, script = self._used()
        return Work(cpu - self._cpu, script - self._script, self.slowest()[0])

    def slowest(self) -> tuple[int, str]:
        """The duration of the slowest command in microseconds, and its name; 0 if none took more than 200."""
        entries = self.client.slowlog_get(5_000)
        found = [(int(entry["duration"]), entry["command"].split(b" ", 1)[0].decode()) for entry in entries]
        return max(found, default=(0, ""))

    def memory(self) -> int:
        """Bytes of all data."""
        return int(self.client.info("memory")["used_memory_dataset"])

    def keys(self) -> int:
        """The number of Redis keys."""
        return int(self.client.dbsize())

    def _used(self) -> tuple[float, float]:
        cpu = self.client.info("cpu")
        stats = self.client.info("commandstats")
        script = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("evalsha", "eval"))
        return (cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6, float(script)
