"""The key directory keeps keys apart, hides secrets, and is right after every interruption."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import Clock, ClusterProcess, ServerProcess
from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.options import Settings
from usage_middleware.store.engine import Engine
from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.keys import KeyInfo, Owner
from usage_middleware.store.members import key_member, org_member
from usage_middleware.store.schema import Schema

HOSTILE = [
    ":",
    "{",
    "}",
    "{*}",
    "*",
    "%2A",
    "(other)",
    "%28other)",
    "a\0b",
    "a",
    "a\0",
    "\1",
    "new\nline",
    "x" * 10_000,
    "\udc80",
    "ключ",
    "a:b",
    "a%3Ab",
]


@pytest.fixture
def schema(namespace: str) -> Schema:
    return Schema(Settings(namespace=namespace))


@pytest.fixture
def keys(engine: Engine, schema: Schema, clock: Clock) -> KeyDirectory:
    return KeyDirectory(engine, schema, clock=clock)


def everything(engine: Engine, namespace: str) -> bytes:
    """All that Redis holds of this test, in one piece."""
    found = []
    for name in engine.client.scan_iter(f"{namespace}:*"):
        found.append(name)
        kind = engine.client.type(name)
        read = {b"hash": "HGETALL", b"string": "GET"}.get(kind)
        found.append(repr(engine.client.execute_command(read, name) if read else engine.client.zrange(name, 0, -1)).encode())
    return b"\n".join(found)


def test_a_key_is_found_by_its_secret(keys: KeyDirectory, clock: Clock) -> None:
    put = keys.put("acme", KeyInfo("key_7", "Search backend", "test"), secret="sk_1")
    assert put == KeyInfo("key_7", "Search backend", "test", "acme", None, clock())
    assert keys.find("sk_1") == keys.get("acme", "key_7") == put
    assert keys.find("sk_2") is None
    assert keys.get("globex", "key_7") is None


def test_no_secret_and_no_bare_digest_is_stored(keys: KeyDirectory, engine: Engine, namespace: str) -> None:
    keys.put("acme", KeyInfo("key_7", "Search"), secret="sk_live_secret")
    stored = everything(engine, namespace)
    assert b"sk_live_secret" not in stored
    assert keys.digest("sk_live_secret").hex().encode() not in stored
    assert keys.digest("sk_live_secret") not in stored


def test_put_again_changes_name_and_environment_and_keeps_the_rest(keys: KeyDirectory, clock: Clock) -> None:
    first = keys.put("acme", KeyInfo("k", "Old name"), secret="s")
    clock.advance(60)
    second = keys.put("acme", KeyInfo("k", "New name", "test"))
    assert (second.name, second.environment, second.created_at) == ("New name", "test", first.created_at)
    assert keys.find("s") == second
    assert keys.list("acme") == [second]


def test_a_key_may_have_two_secrets_while_it_is_rotated(keys: KeyDirectory) -> None:
    keys.put("acme", KeyInfo("k", "K"), secret="old")
    keys.put("acme", KeyInfo("k", "K"), secret="new")
    assert keys.find("old") == keys.find("new") != None  # noqa: E711
    assert keys.drop_secret("acme", "k", "old")
    assert keys.find("old") is None
    assert keys.find("new") is not None
    assert not keys.drop_secret("acme", "k", "old")
    assert not keys.drop_secret("acme", "other", "new")


def test_a_secret_belongs_to_one_key(keys: KeyDirectory) -> None:
    keys.put("acme", KeyInfo("k", "K"), secret="s")
    keys.put("acme", KeyInfo("k", "K"), secret="s")
    with pytest.raises(ConfigurationError, match="belongs to another key already") as refused:
        keys.put("globex", KeyInfo("g", "G"), secret="s")
    assert "acme" not in str(refused.value)
    assert keys.get("globex", "g") is None
    keys.remove("acme", "k")
    keys.put("globex", KeyInfo("g", "G"), secret="s")
    assert keys.find("s") == keys.get("globex", "g")


@pytest.mark.parametrize(
    ("org", "key"),
    [
        (None, KeyInfo("k", "N")),
        (7, KeyInfo("k", "N")),
        ("acme", KeyInfo(UUID(int=7), "N")),  # type: ignore[arg-type]
        ("acme", KeyInfo("k", None)),  # type: ignore[arg-type]
        ("acme", KeyInfo("k", "N", environment=None)),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_text_is_refused(keys: KeyDirectory, org: Any, key: KeyInfo) -> None:
    with pytest.raises(ConfigurationError, match="must be a string"):
        keys.put(org, key, "s")
    assert keys.find("s") is None


@pytest.mark.parametrize(("key", "secret"), [(KeyInfo("", "N"), "s"), (KeyInfo("k", "N"), "")])
def test_an_id_or_secret_is_not_empty(keys: KeyDirectory, key: KeyInfo, secret: str) -> None:
    with pytest.raises(ConfigurationError):
        keys.put("acme", key, secret)


def test_a_revoked_key_is_still_found_as_revoked(keys: KeyDirectory, clock: Clock) -> None:
    keys.put("acme", KeyInfo("k", "K"), secret="s")
    clock.advance(5)
    assert keys.revoke("acme", "k")
    revoked_at = clock()
    clock.advance(5)
    assert keys.revoke("acme", "k")
    found = keys.find("s")
    assert found is not None
    assert found.revoked_at == revoked_at
    assert keys.resolve([keys.digest("s")]) == {keys.digest("s"): Owner("acme", "k", True, revoked_at)}
    assert (keys.list("acme"), keys.count("acme")) == ([], 0)
    assert keys.list("acme", include_revoked=True) == [found]
    assert not keys.revoke("acme", "unknown")


def test_put_says_that_a_key_is_revoked_and_brings_it_back_if_told(keys: KeyDirectory) -> None:
    keys.put("acme", KeyInfo("k", "K"), secret="s")
    keys.revoke("acme", "k")
    with pytest.raises(ConfigurationError, match=r"'k' is revoked; .*reactivate=True"):
        keys.put("acme", KeyInfo("k", "Renamed"), secret="t")
    assert keys.find("t") is None
    keys.put("globex", KeyInfo("g", "G"), secret="t")
    assert [key.name for key in keys.list("acme", include_revoked=True)] == ["K"]
    back = keys.put("acme", KeyInfo("k", "Renamed"), secret="u", reactivate=True)
    assert back.revoked_at is None
    assert keys.find("s") == keys.find("u") == back
    assert keys.list("acme") == keys.list("acme", include_revoked=True) == [back]
    assert keys.resolve([keys.digest("s")])[keys.digest("s")] == Owner("acme", "k", True)


def test_a_revoked_key_may_be_put_as_revoked(keys: KeyDirectory) -> None:
    for name in ("K", "Renamed"):
        assert keys.put("acme", KeyInfo("k", name, revoked_at=7.0), secret="s").revoked_at == 7.0
    assert [key.name for key in keys.list("acme", include_revoked=True)] == ["Renamed"]


@pytest.mark.parametrize("org", ["default", ""])
def test_no_customer_is_called_as_nobody_is(keys: KeyDirectory, org: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'default' is where calls of nobody are counted.*choose another name"):
        keys.put(org, KeyInfo("k", "K"), secret="s")
    assert keys.find("s") is None


@pytest.mark.parametrize(
    "secret", [" sk_1", "sk_1 ", "sk_1\n", "\tsk_1", "sk_1\0b", "sk_1\x7fb", "sk_1ü", "sk_1ключ", "sk_1\udce4", 7, b"sk_1"]
)
def test_a_secret_that_no_header_can_carry_is_refused(keys: KeyDirectory, secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="the secret of an API key must be") as refused:
        keys.put("acme", KeyInfo("k", "K"), secret=secret)
    assert "sk_1" not in str(refused.value)
    assert keys.get("acme", "k") is None


def test_a_secret_may_have_what_a_header_can_carry(keys: KeyDirectory) -> None:
    secret = "".join(map(chr, range(0x21, 0x7F))) + " !"
    keys.put("acme", KeyInfo("k", "K"), secret=secret)
    assert keys.find(secret) == keys.get("acme", "k")


def test_remove_forgets_a_key_and_its_secrets(keys: KeyDirectory, engine: Engine, schema: Schema) -> None:
    keys.put("acme", KeyInfo("k", "K"), secret="s")
    keys.put("acme", KeyInfo("k", "K"), secret="t")
    assert keys.remove("acme", "k")
    assert not keys.remove("acme", "k")
    assert (keys.find("s"), keys.find("t"), keys.get("acme", "k"), keys.list("acme")) == (None, None, None, [])
    assert engine.client.exists(schema.keys("acme"), schema.keys_by_name("acme"), schema.credentials) == 0


def test_a_credential_whose_key_is_gone_is_nobodys(keys: KeyDirectory, engine: Engine, schema: Schema) -> None:
    keys.put("acme", KeyInfo("k", "K"), secret="s")
    engine.client.delete(schema.keys("acme"))
    assert keys.find("s") is None
    assert keys.resolve([keys.digest("s")])[keys.digest("s")][2] is False
    keys.put("acme", KeyInfo("k", "Another key of that id"), secret="new")
    assert keys.find("s") is None
    keys.put("globex", KeyInfo("g", "G"), secret="s")
    assert keys.find("s") == keys.get("globex", "g")


def test_the_list_is_in_the_order_of_names_then_ids(keys: KeyDirectory) -> None:
    for key_id, name in [("3", "b"), ("2", "a"), ("1", "b"), ("9", "a\0"), ("8", "a b"), ("7", "")]:
        keys.put("acme", KeyInfo(key_id, name))
    keys.put("globex", KeyInfo("5", "a"))
    assert [(key.name, key.id) for key in keys.list("acme")] == [
        ("", "7"), ("a", "2"), ("a\0", "9"), ("a b", "8"), ("b", "1"), ("b", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize("include_revoked", [False, True])
def test_the_list_is_paged_from_behind_the_last_one_seen(keys: KeyDirectory, include_revoked: bool) -> None:
    for number in range(25):
        keys.put("acme", KeyInfo(f"k{number}", f"name {number % 4}"))
    for number in range(0, 25, 3):
        keys.revoke("acme", f"k{number}")
    paged: list[KeyInfo] = []
    while page := keys.list(
        "acme", after=(paged[-1].name, paged[-1].id) if paged else None, limit=4, include_revoked=include_revoked
    ):
        assert len(page) <= 4
        paged += page
    assert paged == keys.list("acme", include_revoked=include_revoked)
    assert paged == sorted(paged, key=lambda key: (key.name, key.id))
    assert len(paged) == (25 if include_revoked else 16)


def test_a_list_longer_than_a_page_is_whole(keys: KeyDirectory, engine: Engine, schema: Schema) -> None:
    keys.put("acme", KeyInfo("k", "K"))
    record = json.loads(engine.client.hget(schema.keys("acme"), "k"))
    with engine.client.pipeline(transaction=False) as pipe:
        for number in range(2_345):
            copy = {**record, "id": f"k{number:05}", "name": f"K{number:05}"}
            pipe.hset(schema.keys("acme"), copy["id"], json.dumps(copy))
            pipe.zadd(schema.keys_by_name("acme"), {f"{copy['name']}\0{copy['id']}": 0})
        pipe.execute()
    assert [key.id for key in keys.list("acme")] == ["k", *(f"k{number:05}" for number in range(2_345))]
    assert keys.count("acme") == 2_346
    assert [key.id for key in keys.list("acme", after=("K02343", "k02343"), limit=5)] == ["k02344"]


def test_get_many_answers_under_the_ids_that_were_asked(keys: KeyDirectory) -> None:
    for key_id in ("a", "(b)"):
        keys.put("acme", KeyInfo(key_id, f"name of {key_id}"))
    found = keys.get_many("acme", ["a", "(b)", "unknown"])
    assert {key_id: key.name for key_id, key in found.items()} == {"a": "name of a", "(b)": "name of (b)"}
    assert keys.get_many("acme", []) == {}


def test_hostile_ids_and_names_come_back_and_stay_apart(keys: KeyDirectory) -> None:
    for number, text in enumerate(HOSTILE):
        keys.put("acme", KeyInfo(text, text), secret=f"secret {number}")
    for number, text in enumerate(HOSTILE):
        found = keys.find(f"secret {number}")
        assert found is not None
        assert (found.id, found.name) == (text, text)
        assert keys.get("acme", text) == found
    assert sorted(key.id for key in keys.list("acme")) == sorted(HOSTILE)


def test_hostile_organisations_stay_apart(keys: KeyDirectory) -> None:
    for number, org in enumerate(HOSTILE):
        keys.put(org, KeyInfo(f"key {number}", "N"), secret=f"secret {number}")
    for number, org in enumerate(HOSTILE):
        assert [key.id for key in keys.list(org)] == [f"key {number}"], org
        assert [key.org for key in keys.list(org)] == [org]
        digest = keys.digest(f"secret {number}")
        assert keys.resolve([digest]) == {digest: Owner(org_member(org), f"key {number}", True)}


def test_an_id_that_looks_like_a_cut_one_is_another_key(keys: KeyDirectory) -> None:
    long = "x" * 10_000
    keys.put("acme", KeyInfo(long, "Long"))
    keys.put("acme", KeyInfo(key_member(long), "Looks like the one that was cut"))
    assert [key.id for key in keys.list("acme")] == [long, key_member(long)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(alphabet=st.characters(codec=None), max_size=6), min_size=1, max_size=8, unique=True))
def test_any_names_are_listed_in_the_order_of_their_bytes(keys: KeyDirectory, names: list[str]) -> None:
    for key in keys.list("acme"):
        keys.remove("acme", key.id)
    for number, name in enumerate(names):
        keys.put("acme", KeyInfo(str(number), name))
    assert [key.name for key in keys.list("acme")] == sorted(names, key=lambda name: name.encode("utf-8", "surrogatepass"))


def test_resolve_names_what_it_does_not_know_by_its_hash(keys: KeyDirectory) -> None:
    keys.put("acme", KeyInfo("(k)", "K"), secret="s")
    known, unknown = keys.digest("s"), keys.digest("nobody's")
    found = keys.resolve([known, unknown, known])
    assert found[known] == Owner("acme", "%28k)", True)
    org, key, is_known, _ = found[unknown]
    assert (org, key[:4], len(key), is_known) == ("default", "key_", 20, False)
    assert key[4:] not in unknown.hex()


def test_resolve_asks_redis_twice_for_many_and_then_remembers_for_a_minute(
    keys: KeyDirectory, engine: Engine, clock: Clock
) -> None:
    for number in range(10):
        keys.put(f"org {number}", KeyInfo("k", "K"), secret=f"s{number}")
    digests = [keys.digest(f"s{number}") for number in range(20)]
    keys.resolve(digests[:1])
    other = KeyDirectory(engine, keys._schema, clock=clock)
    expected = other.resolve(digests)
    other.revoke("org 0", "k")
    keys.remove("org 1", "k")
    keys.resolve(digests)
    other.remove("org 2", "k")
    assert keys.resolve(digests)[digests[2]] == expected[digests[2]], "remembered"
    assert keys.resolve(digests)[digests[1]][2] is False, "its own change is seen at once"
    clock.advance(61)
    assert keys.resolve(digests)[digests[2]][2] is False


def test_what_resolve_remembers_is_bounded(keys: KeyDirectory) -> None:
    for begin in range(0, 12_000, 4_000):
        keys.resolve([number.to_bytes(32) for number in range(begin, begin + 4_000)])
    assert len(keys._cache) == 10_000


def test_two_that_start_at_once_agree_on_the_pepper(engine: Engine, schema: Schema, clock: Clock) -> None:
    one, two = (KeyDirectory(engine, schema, clock=clock) for _ in range(2))
    one.put("acme", KeyInfo("k", "K"), secret="s")
    assert two.find("s") is not None
    assert len(engine.client.get(schema.pepper)) == 32


def test_a_lost_pepper_is_put_back(engine: Engine, schema: Schema, clock: Clock) -> None:
    one, two = (KeyDirectory(engine, schema, clock=clock) for _ in range(2))
    one.put("acme", KeyInfo("k", "K"), secret="s")
    engine.client.delete(schema.pepper)
    clock.advance(61)
    assert one.find("s") is not None
    assert two.find("s") is not None


@pytest.mark.parametrize("pepper", [b"p", "text", "\udc80", b"x" * 100])
def test_a_given_pepper_is_never_stored(engine: Engine, schema: Schema, clock: Clock, pepper: bytes | str) -> None:
    KeyDirectory(engine, schema, pepper, clock=clock).put("acme", KeyInfo("k", "K"), secret="s")
    assert KeyDirectory(engine, schema, pepper, clock=clock).find("s") is not None
    assert KeyDirectory(engine, schema, b"another", clock=clock).find("s") is None
    assert engine.client.get(schema.pepper) is None


def test_the_pepper_may_come_from_the_environment(
    engine: Engine, schema: Schema, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USAGE_PEPPER", "from outside")
    KeyDirectory(engine, schema, clock=clock).put("acme", KeyInfo("k", "K"), secret="s")
    assert KeyDirectory(engine, schema, "from outside", clock=clock).find("s") is not None


def test_an_empty_pepper_is_refused(engine: Engine, schema: Schema, clock: Clock) -> None:
    with pytest.raises(ConfigurationError, match="pepper"):
        KeyDirectory(engine, schema, b"", clock=clock)


def test_the_directory_works_in_a_cluster(cluster: ClusterProcess, schema: Schema, clock: Clock) -> None:
    engine = Engine(cluster.url)
    keys = KeyDirectory(engine, schema, clock=clock)
    for number in range(12):
        keys.put(f"org {number}", KeyInfo(f"k{number}", "K"), secret=f"s{number}")
    digests = [keys.digest(f"s{number}") for number in range(13)]
    found = keys.resolve(digests)
    assert [found[digest][:2] for digest in digests[:12]] == [(f"org {number}", f"k{number}") for number in range(12)]
    assert found[digests[12]][2] is False
    assert keys.revoke("org 3", "k3")
    assert keys.remove("org 4", "k4")
    assert [keys.count(f"org {number}") for number in (3, 4, 5)] == [0, 0, 1]
    engine.close()


@pytest.mark.slow
def test_without_redis_it_says_so(schema: Schema, clock: Clock) -> None:
    with ServerProcess() as server:
        engine = Engine(server.url)
        keys = KeyDirectory(engine, schema, clock=clock)
        keys.put("acme", KeyInfo("k", "K"), secret="s")
        server.stop()
        for ask in (
            lambda: keys.find("s"), lambda: keys.list("acme"), lambda: keys.count("acme"), lambda: keys.get("acme", "k"),
            lambda: keys.put("acme", KeyInfo("k", "K")), lambda: keys.revoke("acme", "k"), lambda: keys.remove("acme", "k"),
            lambda: keys.resolve([keys.digest("s")]),
        ):  # fmt: skip
            with pytest.raises(UsageUnavailable):
                ask()
        engine.close()


def test_an_id_alone_is_no_key(keys: KeyDirectory) -> None:
    with pytest.raises(ConfigurationError, match="give a KeyInfo"):
        keys.put("acme", "key_7")  # type: ignore[arg-type]
