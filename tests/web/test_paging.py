"""Pages of one list belong together, also while calls go on and change who is busiest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.seeds.traffic import Traffic
from tests.support import Clock
from usage_middleware import KeyInfo

if TYPE_CHECKING:
    from usage_middleware import Usage

NAMES = [f"GET /v1/{letter}" for letter in "abcdefg"]


def test_every_endpoint_is_on_one_page_while_traffic_flows(make_usage: Callable[..., Usage], clock: Clock) -> None:
    usage = make_usage()
    usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    traffic = Traffic(usage, clock)
    for calls, name in enumerate(NAMES, 1):
        traffic.calls("2026-11-20T13:00:00Z", name, calls)
    traffic.reach("2026-11-20T13:10:00Z")
    seen: list[str] = []
    for offset in range(0, 8, 2):
        page = traffic.api().get(f"/?limit=2&offset={offset}&_={offset}").json
        assert page["pagination"]["has_more"] is (offset < 6)
        seen += [row["endpoint"] for row in page["endpoints"]]
        for _ in range(20):
            traffic.calls("2026-11-20T13:10:00Z", NAMES[offset // 2], 5)
        traffic.reach("2026-11-20T13:10:01Z")
    assert sorted(seen) == NAMES


def test_every_key_is_on_one_page_and_a_new_one_comes_last(make_usage: Callable[..., Usage], clock: Clock) -> None:
    usage = make_usage()
    usage.keys.put("acme", KeyInfo(id="key_0", name="Asks"), secret="sk_acme")
    traffic = Traffic(usage, clock)
    for calls, letter in enumerate("abcd", 1):
        traffic.calls("2026-11-20T13:00:00Z", "GET /v1/a", calls, key=f"key_{letter}")
    traffic.reach("2026-11-20T13:10:00Z")
    first = traffic.api().get("/by-key?limit=2").json
    traffic.calls("2026-11-20T13:10:00Z", "GET /v1/a", 100, key="key_new")
    traffic.calls("2026-11-20T13:10:00Z", "GET /v1/a", 50, key="key_a")
    traffic.reach("2026-11-20T13:10:01Z")
    rest = traffic.api().get("/by-key?limit=9&offset=2").json
    listed = [row["key_id"] for row in first["keys"] + rest["keys"]]
    assert listed == ["key_d", "key_c", "key_b", "key_a", "key_0", "key_new"]
    assert rest["pagination"]["total"] == len(listed)
    shown = sum(row["request_count"] for row in rest["keys"]) + rest["other"]["request_count"]
    assert shown == rest["totals"]["request_count"] == 160
