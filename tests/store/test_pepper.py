"""Peppers: where they are, how one takes the place of another, and what `/health` says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import version_of
from tests.support import Clock, ServerProcess, record_call
from usage_middleware import KeyInfo
from usage_middleware.errors import ConfigurationError
from usage_middleware.report.health import health
from usage_middleware.store.key_changes import MOST_MOVED
from usage_middleware.store.key_directory import KeyDirectory

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]
OLD, NEW = "the old one", "the new one"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with server.client() as found:
        yield found


def put(usage: Usage, count: int = 3) -> list[str]:
    """So many keys of acme; their secrets."""
    secrets = [f"sk_live_{number}" for number in range(count)]
    for number, secret in enumerate(secrets):
        usage.keys.put("acme", KeyInfo(id=f"key_{number}", name="Search"), secret=secret)
    return secrets


def credentials(client: Any, namespace: str) -> set[bytes]:
    found: Any = client.hkeys(f"{namespace}:{{*}}:credentials")
    return set(found)


def said(usage: Usage, code: str) -> str:
    return " ".join(one.message for one in health(usage.reader).warnings if one.code == code)


@pytest.mark.parametrize("old", [OLD, None], ids=["given", "in redis"])
def test_credentials_go_over_when_they_are_seen(make_usage: MakeUsage, client: Any, namespace: str, old: str | None) -> None:
    before = make_usage(pepper=old)
    secrets = put(before)
    under_old = credentials(client, namespace)
    during = make_usage(pepper=(NEW, old))
    assert health(during.reader).redis["old_pepper_left"] == 3
    assert during.keys.find(secrets[0]) is not None  # as `KeyAuth` does
    record_call(during.recorder, KeyDirectory.digest(secrets[1]))  # as a flush does
    assert during.flush()
    assert health(during.reader).redis["old_pepper_left"] == 1
    assert "1 secrets" in said(during, "pepper_rotation")
    assert len(credentials(client, namespace) & under_old) == 1
    assert during.keys.find(secrets[2]) is not None
    assert health(during.reader).redis["old_pepper_left"] == 0
    assert "take the others out" in said(during, "pepper_rotation")
    assert not credentials(client, namespace) & under_old
    after = make_usage(pepper=NEW)
    assert [found.id for secret in secrets if (found := after.keys.find(secret))] == ["key_0", "key_1", "key_2"]
    assert before.keys.find(secrets[0]) is None
    assert not said(after, "pepper_rotation")
    assert "old_pepper_left" not in health(after.reader).redis


def test_nothing_of_a_record_under_the_old_pepper_is_left(make_usage: MakeUsage, client: Any, namespace: str) -> None:
    (secret,) = put(make_usage(pepper=OLD), 1)
    (old,) = credentials(client, namespace)
    during = make_usage(pepper=(NEW, OLD))
    assert during.keys.find(secret) is not None
    assert old not in (client.hget(f"{namespace}:{{acme}}:keys", "key_0") or b"")


def test_the_other_order_first_is_for_processes_that_are_replaced_one_by_one(make_usage: MakeUsage) -> None:
    old = make_usage(pepper=OLD)
    secrets = put(old)
    first, second = make_usage(pepper=(OLD, NEW)), make_usage(pepper=(NEW, OLD))
    for usage in (old, first, second, first):
        assert all(usage.keys.find(secret) for secret in secrets), usage
    assert health(first.reader).redis["old_pepper_left"] == 0


def test_a_key_that_is_put_during_a_rotation_is_under_the_new_one(make_usage: MakeUsage) -> None:
    during = make_usage(pepper=(NEW, OLD))
    (secret,) = put(during, 1)
    assert during.keys.find(secret) is not None
    assert health(during.reader).redis["old_pepper_left"] == 0
    assert make_usage(pepper=NEW).keys.find(secret) is not None


def test_secrets_are_dropped_and_removed_under_either_pepper(make_usage: MakeUsage, client: Any, namespace: str) -> None:
    secrets = put(make_usage(pepper=OLD), 3)
    during = make_usage(pepper=(NEW, OLD))
    assert during.keys.find(secrets[1]) is not None
    assert during.keys.drop_secret("acme", "key_0", secrets[0])
    assert during.keys.drop_secret("acme", "key_1", secrets[1])
    assert during.keys.remove("acme", "key_2")
    assert not credentials(client, namespace)
    assert health(during.reader).redis["old_pepper_left"] == 0


def test_a_secret_that_another_key_has_under_the_old_pepper_is_refused(
    make_usage: MakeUsage, client: Any, namespace: str
) -> None:
    (secret,) = put(make_usage(pepper=OLD), 1)
    during = make_usage(pepper=(NEW, OLD))
    before = credentials(client, namespace)
    with pytest.raises(ConfigurationError, match="belongs to another key"):
        during.keys.put("globex", KeyInfo(id="key_9", name="Thief"), secret=secret)
    assert credentials(client, namespace) == before
    during.keys.put("acme", KeyInfo(id="key_0", name="Search"), secret=secret)
    found = during.keys.find(secret)
    assert found is not None
    assert found.org == "acme"


def test_unknown_credentials_keep_their_names(make_usage: MakeUsage) -> None:
    digest = KeyDirectory.digest("sk_of_nobody")
    name = make_usage(pepper=OLD).keys.resolve([digest])[digest][1]
    assert make_usage(pepper=(NEW, OLD)).keys.resolve([digest])[digest][1] == name


def test_a_flush_moves_only_so_many_at_once(make_usage: MakeUsage, client: Any, namespace: str, clock: Clock) -> None:
    digests = [KeyDirectory.digest(secret) for secret in put(make_usage(pepper=OLD), MOST_MOVED + 1)]
    during = make_usage(pepper=(NEW, OLD))
    assert all(owner[2] for owner in during.keys.resolve(digests).values())
    assert health(during.reader).redis["old_pepper_left"] == 1
    clock.advance(61)
    assert all(owner[2] for owner in during.keys.resolve(digests).values())
    assert health(during.reader).redis["old_pepper_left"] == 0


def test_who_may_only_read_leaves_the_move_to_others(
    make_usage: MakeUsage, server: ServerProcess, client: Any, namespace: str
) -> None:
    if version_of(client) < (7,):
        pytest.skip("rights to read some keys and write others are since Redis 7")
    (secret,) = put(make_usage(pepper=OLD), 1)
    client.execute_command("ACL", "SETUSER", namespace, "on", ">x", f"%R~{namespace}:*", "+@read", "+@connection")
    viewing = make_usage(server.url.replace("unix://", f"unix://{namespace}:x@"), pepper=(NEW, OLD))
    assert viewing.keys.find(secret) is not None
    assert health(viewing.reader).redis["old_pepper_left"] == 1
    client.execute_command("ACL", "DELUSER", namespace)


def test_health_warns_of_a_pepper_in_redis(make_usage: MakeUsage, client: Any, namespace: str) -> None:
    usage = make_usage()
    assert not said(usage, "pepper_in_redis")
    put(usage)
    assert "whoever can read Redis" in said(usage, "pepper_in_redis")
    assert "An old pepper is still in Redis" in said(make_usage(pepper=NEW), "pepper_in_redis")
    client.delete(f"{namespace}:{{*}}:pepper")
    assert not said(make_usage(pepper=NEW), "pepper_in_redis")


def test_a_pepper_never_shows(make_usage: MakeUsage, client: Any, namespace: str) -> None:
    during = make_usage(pepper=(NEW, OLD))
    put(during)
    assert during.keys.find("sk_live_1") is not None
    held = [client.dump(name) for name in client.scan_iter(f"{namespace}:*")]
    assert held
    assert not [one for one in held if NEW.encode() in one or OLD.encode() in one or b"sk_live" in one]
    assert NEW not in repr(health(during.reader))


@pytest.mark.parametrize("pepper", ["", b"", (), ("a", "a"), (NEW, ""), (7,), (None, None), [b"x", "x"]])
def test_what_is_no_pepper(make_usage: MakeUsage, pepper: Any) -> None:
    with pytest.raises(ConfigurationError, match="pepper"):
        make_usage(pepper=pepper)
