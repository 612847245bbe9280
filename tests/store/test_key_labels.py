"""Owners and labels of API keys: what costs are divided by."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import Clock
from usage_middleware import KeyInfo, Usage
from usage_middleware.errors import ConfigurationError
from usage_middleware.store import keys
from usage_middleware.store.members import key_member

KEY = KeyInfo(id="key_7", name="Search", owner="ada", labels={"team": "search", "centre": "4711"})


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    return make_usage()


def kept(usage: Usage) -> tuple[str | None, dict[str, str]]:
    found = usage.keys.get("acme", "key_7")
    assert found is not None
    return found.owner, dict(found.labels)


def test_a_key_has_an_owner_and_labels(usage: Usage) -> None:
    put = usage.keys.put("acme", KEY, secret="sk_acme")
    found = [usage.keys.get("acme", "key_7"), usage.keys.find("sk_acme"), *usage.keys.list("acme")]
    assert found == [put, put, put]
    assert kept(usage) == ("ada", {"team": "search", "centre": "4711"})


def test_what_is_not_given_stays_and_what_is_empty_goes(usage: Usage) -> None:
    usage.keys.put("acme", KEY)
    assert usage.keys.put("acme", KeyInfo(id="key_7", name="Renamed"), secret="sk_2").owner == "ada"
    usage.keys.put("acme", KeyInfo(id="key_7", name="Search", labels={"team": "maps", "centre": ""}))
    assert kept(usage) == ("ada", {"team": "maps"})
    usage.keys.put("acme", KeyInfo(id="key_7", name="Search", owner="", labels={"team": ""}))
    assert kept(usage) == (None, {})
    assert not usage.engine.client.exists(f"{usage.settings.namespace}:{{acme}}:keys:labels")


def test_an_older_version_does_not_drop_them(usage: Usage) -> None:
    """It writes the record as it was before there were owners and labels."""
    usage.keys.put("acme", KEY)
    name = f"{usage.settings.namespace}:{{acme}}:keys"
    record = json.loads(usage.engine.client.hget(name, "key_7"))
    assert not {"owner", "labels"} & set(record)
    usage.engine.client.hset(name, "key_7", json.dumps({**record, "name": "Renamed"}))
    assert kept(usage) == ("ada", {"team": "search", "centre": "4711"})


def test_a_later_key_of_the_same_id_begins_anew(usage: Usage, clock: Clock) -> None:
    usage.keys.put("acme", KEY)
    usage.keys.remove("acme", "key_7")
    clock.advance(1)
    usage.keys.put("acme", KeyInfo(id="key_7", name="Other"))
    assert kept(usage) == (None, {})
    # An older version removes the record alone.
    usage.keys.put("acme", KEY)
    usage.engine.client.hdel(f"{usage.settings.namespace}:{{acme}}:keys", "key_7")
    clock.advance(1)
    usage.keys.put("acme", KeyInfo(id="key_7", name="Other"))
    assert kept(usage) == (None, {})


@pytest.mark.parametrize("damaged", [b"{", b"[]", b'{"owner": 7}'])
def test_damaged_labels_are_none(usage: Usage, damaged: bytes) -> None:
    usage.keys.put("acme", KEY)
    usage.engine.client.hset(f"{usage.settings.namespace}:{{acme}}:keys:labels", "key_7", damaged)
    assert kept(usage) == (None, {})


def test_labels_of_another_type_are_none(usage: Usage) -> None:
    usage.keys.put("acme", KeyInfo(id="key_7", name="Search"))
    usage.engine.client.set(f"{usage.settings.namespace}:{{acme}}:keys:labels", "text")
    assert kept(usage) == (None, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": 7},
        {"owner": "x" * 129},
        {"labels": {"Team": "search"}},
        {"labels": {"team": 7}},
        {"labels": {"team": "(other)"}},
        {"labels": {f"l{number}": "x" for number in range(21)}},
        {"labels": ["team"]},
    ],
)
def test_what_they_can_be(usage: Usage, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="API key"):
        usage.keys.put("acme", KeyInfo(id="key_7", name="Search", **wrong))


def test_a_record_is_read_whatever_wrote_it() -> None:
    record = keys.Record(KEY, ("hidden",))
    found = keys.decode_record(keys.encode_record(record).encode())
    assert found is not None
    assert (found.key.id, found.key.owner, found.secrets) == (key_member("key_7"), None, ("hidden",))


def test_many_keys_of_which_few_or_none_have_labels(usage: Usage) -> None:
    for number in range(120):
        usage.keys.put("acme", KeyInfo(id=f"key_{number:03}", name=f"Key {number}"))
    assert {(key.owner, *key.labels) for key in usage.keys.list("acme")} == {(None,)}
    usage.keys.put("acme", KeyInfo(id="key_100", name="Key 100", owner="ada"))
    assert [key.id for key in usage.keys.list("acme") if key.owner] == ["key_100"]
    usage.engine.client.set(f"{usage.settings.namespace}:{{acme}}:keys:labels", "damaged")
    assert len(usage.keys.list("acme")) == 120
