"""Calls at given times, and the usage API that shows them: what a test of a seed document needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.support import Clock, record_call
from tests.web.hosts import HOSTS, Api
from usage_middleware.web import KeyAuth

if TYPE_CHECKING:
    from usage_middleware import Usage

NOW = "2026-11-20T13:45:20Z"


def at(text: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


class Traffic:
    """Records calls of one organisation's keys, delivered at once."""

    def __init__(self, usage: Usage, clock: Clock) -> None:
        self.usage = usage
        self._clock = clock
        self._dimensions, self._counters = usage.settings.dimensions, usage.settings.counters

    def calls(
        self,
        when: str,
        endpoint: str = "GET /v1/items",
        times: int = 1,
        *,
        org: str = "acme",
        key: str = "key_1",
        status: int = 200,
        ms: float = 8,
        sent: int = 100,
        **more: str | int,
    ) -> None:
        """So many calls finish at `when`, tagged and counted (each) as `more` says. The clock stays there."""
        self._clock.set(at(when))
        tags = tuple(str(more.pop(name, self.usage.settings.untagged.get(name, "(none)"))) for name in self._dimensions)
        counts = tuple(int(more.pop(name, 0)) for name in self._counters)
        assert not more, f"undeclared: {more}"
        for _ in range(times):
            record_call(self.usage.recorder, (org, key), endpoint, tags, status, round(ms * 1000), sent, counts)
        assert self.usage.flush()

    def reach(self, now: str = NOW) -> None:
        """Let it be now."""
        self._clock.set(at(now))

    def api(self, key: str | None = "sk_acme", auth: Callable[[Any], object] | None = None, **options: Any) -> Api:
        """The usage API, asked with a key. Without a limit: tests that share a namespace ask more than 300 times a minute."""
        asked = KeyAuth(self.usage.keys) if auth is None else auth
        return Api(HOSTS[4], HOSTS[4].make(self.usage, auth=asked, **{"limit": None, **options}), key)


def column(rows: Sequence[dict[str, Any]], *names: str) -> list[Any]:
    """Some fields of every row; a single one bare."""
    return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in rows]
