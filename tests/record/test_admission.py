"""Organisations that nobody knows are capped: beyond the cap they count as `(other)`, and have no tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support import ServerProcess, record_call
from usage_middleware import KeyInfo, Plan, Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.record.admission import MOST_UNASKED
from usage_middleware.report.health import health
from usage_middleware.store.key_directory import KeyDirectory

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[redis.Redis]:
    with server.client() as found:
        yield found


def call(usage: Usage, *orgs: str) -> None:
    for org in orgs:
        record_call(usage.recorder, (org, "key_1"))


def trees(client: redis.Redis, namespace: str) -> set[str]:
    """The organisations that have any Redis key."""
    names: Any = client.keys(f"{namespace}:*")
    return {name.decode().split("{", 1)[1].split("}", 1)[0] for name in names} - {"*"}


def orgs_of_operator(client: redis.Redis, namespace: str) -> dict[str, int]:
    """The calls of each organisation in the operator's tree."""
    found: Any = client.zrange(f"{namespace}:{{*}}:board:1d:2026-11-20:org:calls", 0, -1, withscores=True)
    return {name.decode(): int(calls) for name, calls in found}


def test_beyond_the_cap_there_is_no_tree(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    usage = make_usage(max_unknown_orgs=3)
    call(usage, "a", "b")
    assert usage.flush()
    call(usage, "a", "c", "d", "e", "e")
    assert usage.flush()
    counted = orgs_of_operator(client, namespace)
    assert sum(counted.values()) == 7
    assert len(counted) == 4
    assert trees(client, namespace) == set(counted) - {"(other)"}
    assert {"a", "b"} < trees(client, namespace)
    assert usage.reconcile().differences == ()


def test_those_of_the_directory_are_not_capped(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    usage = make_usage(max_unknown_orgs=1)
    for number in range(5):
        usage.keys.put(f"customer{number}", KeyInfo(id="key_1", name="x"), secret=f"sk_{number}")
    usage.keys.revoke("customer4", "key_1")
    call(usage, "stranger", *(f"customer{number}" for number in range(5)))
    record_call(usage.recorder, KeyDirectory.digest("sk_0"))
    record_call(usage.recorder, KeyDirectory.digest("sk_unknown"))
    assert usage.flush()
    assert orgs_of_operator(client, namespace).keys() == {"stranger", "default", *(f"customer{number}" for number in range(5))}
    call(usage, "another")
    assert usage.flush()
    assert orgs_of_operator(client, namespace)["(other)"] == 1


def test_those_with_a_plan_are_not_capped(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    usage = make_usage(max_unknown_orgs=1, plans=(Plan("pro"),))
    usage.plans.assign("customer", "pro")
    call(usage, "stranger")
    assert usage.flush()
    call(usage, "customer", "another")
    assert usage.flush()
    assert orgs_of_operator(client, namespace) == {"stranger": 1, "customer": 1, "(other)": 1}


def test_those_of_a_key_store_of_the_applications_are_not_capped(
    make_usage: MakeUsage, client: redis.Redis, namespace: str
) -> None:
    class Store:
        def count(self, org: str) -> int:
            return 3 if org == "customer" else 0

        def list(self, org: str, *, after: Any = None, limit: int | None = None, include_revoked: bool = False) -> Any:
            return []

        def get(self, org: str, key_id: str) -> None:
            return None

        def get_many(self, org: str, key_ids: Any) -> dict[str, KeyInfo]:
            return {}

        def find(self, secret: str) -> None:
            return None

        def resolve(self, digests: Any) -> Any:
            return {}

    usage = make_usage(max_unknown_orgs=1, keys=Store())
    call(usage, "stranger")
    assert usage.flush()
    call(usage, "customer", "another")
    assert usage.flush()
    assert orgs_of_operator(client, namespace) == {"stranger": 1, "customer": 1, "(other)": 1}


def test_several_workers_share_the_cap(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    usages = [make_usage(max_unknown_orgs=4) for _ in range(3)]
    for number, usage in enumerate(usages):
        call(usage, "common", *(f"org{number}_{one}" for one in range(3)))
        assert usage.flush()
    assert len(trees(client, namespace)) == 4
    assert sum(orgs_of_operator(client, namespace).values()) == 12


def test_without_the_operators_tree_they_are_dropped_and_counted_as_such(
    make_usage: MakeUsage, client: redis.Redis, namespace: str
) -> None:
    usage = make_usage(max_unknown_orgs=1, operator_tree=False)
    call(usage, "a")
    assert usage.flush()
    call(usage, "b", "c", "c")
    assert usage.flush()
    assert trees(client, namespace) == {"a"}
    assert usage.recorder.stats().dropped == {"(other)": 3}
    assert "dropped" in {one.code for one in health(usage.reader).warnings}


def test_drops_of_others_open_no_tree(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    usage = make_usage(max_unknown_orgs=1)
    call(usage, "a")
    assert usage.flush()
    usage.recorder._aggregate.limit = 1
    call(usage, "b", "c", "d")
    assert usage.flush()
    assert trees(client, namespace) == {"a"}


def test_it_may_be_raised(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    call(small := make_usage(max_unknown_orgs=1), "a", "b")
    assert small.flush()
    call(large := make_usage(max_unknown_orgs=2), "b", "a")
    assert large.flush()
    assert trees(client, namespace) == {"a", "b"}


def test_who_was_refused_is_asked_about_again(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    usage = make_usage(max_unknown_orgs=1)
    call(usage, "a")
    assert usage.flush()
    call(usage, "b")
    assert usage.flush()
    usage.keys.put("b", KeyInfo(id="key_1", name="x"))
    usage.recorder._flusher._new_sender.args[2].admission._refused.clear()
    call(usage, "b")
    assert usage.flush()
    assert trees(client, namespace) == {"a", "b"}


def test_health_says_so_before_it_is_full(make_usage: MakeUsage) -> None:
    usage = make_usage(max_unknown_orgs=10)
    for number in range(10):
        call(usage, f"org{number}")
        assert usage.flush()
        said = [one.message for one in health(usage.reader).warnings if one.code == "organizations"]
        assert bool(said) == (number + 1 >= 8), number
    assert said[0].startswith("10 of 10 organisations")


def test_while_redis_is_away_all_but_a_few_wait(
    make_usage: MakeUsage, client: redis.Redis, namespace: str, tmp_path: Path
) -> None:
    away = make_usage("unix:///nowhere/at/all", spool=tmp_path, max_unknown_orgs=1, shutdown_timeout=0.01)
    call(away, *(f"org{number}" for number in range(MOST_UNASKED + 30)))
    away.close()
    usage = make_usage(spool=tmp_path, max_unknown_orgs=1)
    usage.recorder._flusher.recover(lambda: True, now=True)
    counted = orgs_of_operator(client, namespace)
    assert len(trees(client, namespace)) in (MOST_UNASKED, MOST_UNASKED + 1)
    assert sum(counted.values()) == MOST_UNASKED + 30


@pytest.mark.parametrize("name", ["(other)", "%28other)", "(anonymous)", "*", "default"])
def test_no_viewer_resolves_to_others(make_usage: MakeUsage, name: str) -> None:
    usage = make_usage(max_unknown_orgs=1)
    call(usage, "a", "b", "c")
    assert usage.flush()
    assert Viewer.organization(name).org != "(other)"
    assert Viewer.key(name, "key_1").org != "(other)"
    assert usage.reader.summary(Viewer.organization(name), period="24h").total_calls == 0


@pytest.mark.parametrize("most", [0, -1, True, 1.5, None])
def test_the_option(most: Any, make_usage: MakeUsage) -> None:
    with pytest.raises(ConfigurationError, match="max_unknown_orgs must be a whole number of at least 1"):
        make_usage(max_unknown_orgs=most)


def test_where_the_list_of_them_is_damaged_calls_go_on(make_usage: MakeUsage, client: redis.Redis, namespace: str) -> None:
    client.set(f"{namespace}:{{*}}:unknown_orgs", "x")
    usage = make_usage(max_unknown_orgs=1)
    call(usage, "a", "b")
    assert usage.flush()
    assert trees(client, namespace) == {"a", "b"}
    assert "unknown_orgs" in " ".join(one.message for one in health(usage.reader).warnings if one.code == "damaged")
