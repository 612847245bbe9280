"""The key directory: which API keys an organisation has, what they are called, and which credential is whose."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from heapq import merge
from itertools import islice
from typing import Any, Protocol, TypeAlias

from usage_middleware.credentials import credential_digest
from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store.key_record import (
    KeyInfo,
    Record,
    checked,
    decoded,
    decoded_key,
    encoded,
    member_at,
    merged,
    place,
    revoked,
    without,
)
from usage_middleware.store.pepper import Connected, Pepper
from usage_middleware.store.schema import Schema, key_member, org_member
from usage_middleware.store.ttl_cache import TTLCache

__all__ = ["Directory", "KeyDirectory", "KeyInfo"]

#: How long `resolve` remembers whose a credential is, in seconds, and how many of them.
REMEMBERED_FOR = 60.0
REMEMBERED = 10_000
_PAGE = 1_000
_TRIES = 50

KeyInfos: TypeAlias = "list[KeyInfo]"
#: Digest of a credential -> organisation and key, as members, and whether the directory knows it.
Resolved: TypeAlias = "dict[bytes, tuple[str, str, bool]]"


class Directory(Protocol):
    """What the rest of the package asks a key directory. Any object that answers so may take the place of ours."""

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> KeyInfos:
        """The keys of an organisation by name, then id; see `KeyDirectory.list`."""

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        """One key."""

    def get_many(self, org: str, key_ids: Collection[str]) -> dict[str, KeyInfo]:
        """Id -> key, of those that exist."""

    def count(self, org: str) -> int:
        """How many active keys an organisation has."""

    def find(self, secret: str) -> KeyInfo | None:
        """Whose secret this is; revoked keys too."""

    def resolve(self, digests: Collection[bytes]) -> Resolved:
        """Whose credentials these are, by their digests: organisation, key id, and True; those that it knows."""


class Guarded(Connected, Protocol):
    """What the directory needs of an engine."""

    def guard(self) -> AbstractContextManager[None]:
        """Turns errors of the driver into `UsageUnavailable`."""


#: Writes a record and its place in the order of names, if the record is still as it was read.
#: KEYS: records, names of active keys, names of revoked ones. ARGV: field, old and new record ('': none), old and new
#: place, 2 or 3: to which of KEYS the new place belongs.
_SWAP = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[4])
redis.call('ZREM', KEYS[3], ARGV[4])
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('ZADD', KEYS[tonumber(ARGV[6])], 0, ARGV[5])
end
return 1
"""
#: Gives a credential to a key, unless another has it. ARGV: credential, its key, the key that it may be taken from.
_CLAIM = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held ~= ARGV[2] and held ~= ARGV[3] then return held end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ''
"""
#: Takes credentials from a key. ARGV: the key, credentials.
_RELEASE = """
for number = 2, #ARGV do
  if redis.call('HGET', KEYS[1], ARGV[number]) == ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[number]) end
end
return 0
"""


class KeyDirectory:
    """The key directory in Redis. Every method raises `UsageUnavailable` where Redis does not answer.

    Secrets are kept as keyed hashes only. A key may have several: put the new one, change over, drop the old one.
    """

    def __init__(
        self, engine: Guarded, schema: Schema, pepper: bytes | str | None = None, *, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._clock = clock
        self._pepper = Pepper(engine, schema.pepper, pepper, clock)
        self._memory: TTLCache[bytes, tuple[str, str, bool]] = TTLCache(clock, seconds=REMEMBERED_FOR, size=REMEMBERED)

    @staticmethod
    def digest(secret: str) -> bytes:
        """What stands for a secret from the moment it is seen: BLAKE2b-256, 32 bytes."""
        return credential_digest(secret)

    def put(self, org: str, key: KeyInfo, secret: str | None = None) -> KeyInfo:
        """Add a key, or change its name and environment, and give it one more secret. The key as it is now.

        An existing key keeps its secrets and `created_at`. A revoked one stays revoked: to use it again, remove it first.

        Raises:
            ConfigurationError: the id or the secret is empty, or belongs to another key already; or something is no string.
        """
        checked(org, key, secret)
        org = org or DEFAULT_ORG
        with self._engine.guard():
            hidden = () if secret is None else (self._claimed(org, key.id, secret),)
            _, new = self._change(org, key.id, lambda old: merged(old, org, key, hidden, self._clock()))
        self._memory.clear()
        assert new is not None
        return new.key

    def revoke(self, org: str, key_id: str) -> bool:
        """Make a key invalid. Its calls, its name and its secrets stay, so that refused calls are still seen as its own.

        False where there is no such key. Revoking again changes nothing.
        """
        with self._engine.guard():
            old, _ = self._change(org, key_id, lambda old: old and revoked(old, self._clock()))
        self._memory.clear()
        return old is not None

    def remove(self, org: str, key_id: str) -> bool:
        """Forget a key and its secrets; calls that were counted stay. False where there is no such key."""
        with self._engine.guard():
            # First the record: a credential without it is nobody's, wherever we are interrupted.
            old, _ = self._change(org, key_id, lambda old: None)
            if old is not None:
                self._release(old, old.secrets)
        self._memory.clear()
        return old is not None

    def drop_secret(self, org: str, key_id: str, secret: str) -> bool:
        """Take one secret from a key, at the end of a rotation. False where the key does not have it."""
        with self._engine.guard():
            hidden = self._pepper.hide(self.digest(secret))
            old, _ = self._change(org, key_id, lambda old: old and without(old, hidden))
            had = old is not None and hidden in old.secrets
            if old is not None and had:
                self._release(old, (hidden,))
        self._memory.clear()
        return had

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> KeyInfos:
        """The keys of an organisation by name, then id: `limit` at most, from behind `after`, a (name, id)."""
        with self._engine.guard():
            places = merge(*(self._places(name, after, limit) for name in self._orders(org, include_revoked)))
            members = [member_at(found) for found in islice(places, limit)]
            keys = self._keys(org, members).values()
            return [key for key in keys if include_revoked or key.revoked_at is None]

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        """One key, revoked or not; None where there is none."""
        return self.get_many(org, [key_id]).get(key_id)

    def get_many(self, org: str, key_ids: Collection[str]) -> dict[str, KeyInfo]:
        """Id -> key, of those that exist."""
        with self._engine.guard():
            found = self._keys(org, [key_member(key_id).encode() for key_id in key_ids])
        by_member = {key_id: found.get(key_member(key_id).encode()) for key_id in key_ids}
        return {key_id: key for key_id, key in by_member.items() if key is not None}

    def count(self, org: str) -> int:
        """How many active keys an organisation has."""
        with self._engine.guard():
            return int(self._engine.read_client.zcard(self._schema.keys_by_name(org_member(org))))

    def find(self, secret: str) -> KeyInfo | None:
        """Whose secret this is, with `org` filled in; a revoked key has `revoked_at`. None where it is nobody's."""
        with self._engine.guard():
            hidden = self._pepper.hide(self.digest(secret))
            record = self._owners(self._engine.read_client, [hidden]).get(hidden)
        return record.key if record else None

    def resolve(self, digests: Collection[bytes]) -> Resolved:
        """Whose credentials these are: digest -> (organisation, key, known), the first two as members (see `store.schema`).

        A credential that nobody knows is `("default", "key_<16 hex digits of its hash>", False)`. Answers are remembered
        for 60 s, so a change that another process makes may be seen that late. Two round trips for 1,000 new digests.
        """
        found = self._memory.known(digests)
        missing = [digest for digest in dict.fromkeys(digests) if digest not in found]
        for begin in range(0, len(missing), _PAGE):
            asked_at = self._memory.generation
            with self._engine.guard():
                some = self._resolved(missing[begin : begin + _PAGE])
            self._memory.keep(some, asked_at)
            found.update(some)
        return found

    def _resolved(self, digests: Iterable[bytes]) -> Resolved:
        hidden = {digest: self._pepper.hide(digest) for digest in digests}
        owners = self._owners(self._engine.client, hidden.values())
        return {digest: _caller(name, owners.get(name)) for digest, name in hidden.items()}

    def _owners(self, client: Any, hidden: Collection[str]) -> dict[str, Record]:
        """Credential -> its key, where both agree."""
        held = client.hmget(self._schema.credentials, list(hidden))
        named = {name: tuple(json.loads(owner)) for name, owner in zip(hidden, held, strict=True) if owner is not None}
        owners = list(dict.fromkeys(named.values()))
        with client.pipeline(transaction=False) as pipe:
            for org, key_id in owners:
                pipe.hget(self._schema.keys(org_member(org)), key_member(key_id))
            records = {owner: decoded(raw) for owner, raw in zip(owners, pipe.execute(), strict=True) if raw is not None}
        return {name: records[owner] for name, owner in named.items() if owner in records and name in records[owner].secrets}

    def _claimed(self, org: str, key_id: str, secret: str) -> str:
        hidden, owner = self._pepper.hide(self.digest(secret)), _owner(org, key_id)
        held = self._script(_CLAIM, [self._schema.credentials], hidden, owner, "")
        if held and not self._owners(self._engine.client, [hidden]):
            # What is left of an interrupted put or remove is nobody's.
            held = self._script(_CLAIM, [self._schema.credentials], hidden, owner, held)
        if held:
            raise ConfigurationError("this secret belongs to another key already; drop_secret or remove it there first")
        return hidden

    def _release(self, record: Record, hidden: Iterable[str]) -> None:
        owner = _owner(record.key.org or DEFAULT_ORG, record.key.id)
        self._script(_RELEASE, [self._schema.credentials], owner, *hidden)

    def _change(
        self, org: str, key_id: str, change: Callable[[Record | None], Record | None]
    ) -> tuple[Record | None, Record | None]:
        """The record before and after; nobody else's change in between is lost."""
        tree, member = org_member(org), key_member(key_id)
        for _ in range(_TRIES):
            raw = self._engine.client.hget(self._schema.keys(tree), member) or b""
            old = decoded(raw) if raw else None
            new = change(old)
            if new == old or self._swapped(tree, member, raw, old, new):
                return old, new
        raise UsageUnavailable("other processes keep changing the same API key; try again")

    def _swapped(self, tree: str, member: str, raw: bytes, old: Record | None, new: Record | None) -> bool:
        names = [self._schema.keys(tree), self._schema.keys_by_name(tree), self._schema.revoked_keys_by_name(tree)]
        places = [place(record.key.name, member) if record else b"" for record in (old, new)]
        order = 3 if new is not None and new.key.revoked_at is not None else 2
        return bool(self._script(_SWAP, names, member, raw, encoded(new) if new else "", *places, order))

    def _script(self, script: str, names: Collection[str], *arguments: str | bytes | int) -> Any:
        return self._engine.client.execute_command("EVAL", script, len(names), *names, *arguments)

    def _orders(self, org: str, include_revoked: bool) -> tuple[str, ...]:
        tree = org_member(org)
        active = self._schema.keys_by_name(tree)
        return (active, self._schema.revoked_keys_by_name(tree)) if include_revoked else (active,)

    def _places(self, name: str, after: tuple[str, str] | None, limit: int | None) -> Iterator[bytes]:
        start = b"-" if after is None else b"(" + place(after[0], key_member(after[1]))
        size = _PAGE if limit is None else min(limit, _PAGE)
        while size > 0:
            page = self._engine.read_client.zrangebylex(name, start, "+", 0, size)
            yield from page
            if len(page) < size:
                return
            start = b"(" + page[-1]

    def _keys(self, org: str, members: Collection[bytes]) -> dict[bytes, KeyInfo]:
        found: dict[bytes, KeyInfo] = {}
        name, wanted = self._schema.keys(org_member(org)), list(members)
        for begin in range(0, len(wanted), _PAGE):
            some = wanted[begin : begin + _PAGE]
            held = self._engine.read_client.hmget(name, some)
            found.update((member, decoded_key(raw)) for member, raw in zip(some, held, strict=True) if raw is not None)
        return found


def _caller(hidden: str, record: Record | None) -> tuple[str, str, bool]:
    if record is None:
        return DEFAULT_ORG, f"key_{hidden[:16]}", False
    return org_member(record.key.org), key_member(record.key.id), True


def _owner(org: str, key_id: str) -> str:
    return json.dumps([org, key_id])
