"""The key directory in Redis: the API keys of each organisation, their names, and which credential belongs to which key."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Any

from usage_middleware.credentials import credential_digest
from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store import keys
from usage_middleware.store.engine import Engine
from usage_middleware.store.keys import KeyInfo, KeyInfos, Owner, Record, Resolved
from usage_middleware.store.members import key_member, org_member
from usage_middleware.store.pepper import Pepper
from usage_middleware.store.schema import Schema
from usage_middleware.store.ttl_cache import TTLCache

#: For how many seconds `resolve` caches a credential, and how many credentials.
CACHED_SECONDS = 60.0
CACHED_CREDENTIALS = 10_000
_PAGE = 1_000
_TRIES = 50

#: Writes a record and its sort key, if the record is still as it was read.
#: KEYS: records, sort keys of active keys, sort keys of revoked ones. ARGV: field, old and new record ('': none), old and
#: new sort key, 2 or 3: which of KEYS the new sort key belongs to.
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
#: Gives a credential to a key, unless another key has it. ARGV: credential, the key, a key that it may be taken from.
_CLAIM = """
local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner and owner ~= ARGV[2] and owner ~= ARGV[3] then return owner end
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
    """The key directory in Redis. Every method raises `UsageUnavailable` if Redis does not answer.

    Secrets are stored as keyed hashes only. A key may have several secrets, to rotate them: put the new one, change the
    clients, drop the old one.
    """

    def __init__(
        self, engine: Engine, schema: Schema, pepper: bytes | str | None = None, *, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._clock = clock
        self._pepper = Pepper(engine, schema.pepper, pepper, clock)
        self._cache: TTLCache[bytes, Owner] = TTLCache(clock, seconds=CACHED_SECONDS, size=CACHED_CREDENTIALS)

    @staticmethod
    def digest(secret: str) -> bytes:
        """The digest that takes the place of a secret at once: BLAKE2b-256, 32 bytes."""
        return credential_digest(secret)

    def put(self, org: str, key: KeyInfo, secret: str | None = None, *, reactivate: bool = False) -> KeyInfo:
        """Add a key, or change its name and environment, and give it one more secret. Returns the key as it is now.

        An existing key keeps its secrets and `created_at`. With `reactivate`, a revoked one is active again.

        Raises:
            ConfigurationError: the key is revoked and `reactivate` is False; the organisation is `default`; the id or the
                secret is empty or belongs to another key; the secret is nothing that a header can carry; or something is no
                string.
        """
        keys.require_key(org, key, secret)
        with self._engine.guard():
            # Refused before the secret is claimed.
            keys.merge(self._record(org, key.id), org, key, (), self._clock(), reactivate=reactivate)
            hidden = () if secret is None else (self._claimed(org, key.id, secret),)
            _, new = self._change(
                org, key.id, lambda old: keys.merge(old, org, key, hidden, self._clock(), reactivate=reactivate)
            )
        self._cache.clear()
        assert new is not None
        return new.key

    def revoke(self, org: str, key_id: str) -> bool:
        """Make a key invalid. Its calls, name and secrets stay, so that refused calls still count as its own.

        Returns False if there is no such key. To revoke a key twice changes nothing.
        """
        with self._engine.guard():
            old, _ = self._change(org, key_id, lambda old: old and keys.revoke(old, self._clock()))
        self._cache.clear()
        return old is not None

    def remove(self, org: str, key_id: str) -> bool:
        """Delete a key and its secrets; counted calls stay. Returns False if there is no such key."""
        with self._engine.guard():
            # The record first. A credential without a record belongs to no key, so an interruption does no harm.
            old, _ = self._change(org, key_id, lambda old: None)
            if old is not None:
                self._release(old, old.secrets)
        self._cache.clear()
        return old is not None

    def drop_secret(self, org: str, key_id: str, secret: str) -> bool:
        """Take one secret from a key, at the end of a rotation. Returns False if the key does not have it."""
        with self._engine.guard():
            hidden = self._pepper.hide(self.digest(secret))
            old, _ = self._change(org, key_id, lambda old: old and keys.without_secret(old, hidden))
            had = old is not None and hidden in old.secrets
            if old is not None and had:
                self._release(old, (hidden,))
        self._cache.clear()
        return had

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> KeyInfos:
        """The keys of an organisation by name, then id: at most `limit`, after the (name, id) `after`."""
        with self._engine.guard():
            sort_keys = merge(*(self._sort_keys(name, after, limit) for name in self._orders(org, include_revoked)))
            members = [keys.member_of(found) for found in islice(sort_keys, limit)]
            found = self._keys(org, members).values()
            return [key for key in found if include_revoked or key.revoked_at is None]

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        """One key, revoked or not; None if there is none."""
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
        """The key with this secret, revoked or not; None if there is none."""
        with self._engine.guard():
            hidden = self._pepper.hide(self.digest(secret))
            record = self._owners(self._engine.read_client, [hidden]).get(hidden)
        return record.key if record else None

    def resolve(self, digests: Collection[bytes]) -> Resolved:
        """The keys of credentials: digest -> (organisation, key, known, revoked_at), the first two as members.

        An unknown credential is `("default", "key_<16 hex digits of its hash>", False, None)`. Results are cached for 60 s,
        so a change by another process may be seen that late. Takes two round trips for 1,000 new digests.
        """
        found = self._cache.known(digests)
        missing = [digest for digest in dict.fromkeys(digests) if digest not in found]
        for begin in range(0, len(missing), _PAGE):
            asked_at = self._cache.generation
            with self._engine.guard():
                some = self._resolve(missing[begin : begin + _PAGE])
            self._cache.keep(some, asked_at)
            found.update(some)
        return found

    def _resolve(self, digests: Iterable[bytes]) -> Resolved:
        hidden = {digest: self._pepper.hide(digest) for digest in digests}
        owners = self._owners(self._engine.client, hidden.values())
        return {digest: _owner_of(name, owners.get(name)) for digest, name in hidden.items()}

    def unknown(self, digests: Iterable[bytes]) -> Resolved:
        """As `resolve`, of credentials that are known to be unknown."""
        with self._engine.guard():
            return {digest: _owner_of(self._pepper.hide(digest), None) for digest in digests}

    def _owners(self, client: Any, hidden: Collection[str]) -> dict[str, Record]:
        """Credential -> its key. Only where both say so: an interrupted put or remove may leave one of them."""
        replies = client.hmget(self._schema.credentials, list(hidden))
        named = {name: tuple(json.loads(owner)) for name, owner in zip(hidden, replies, strict=True) if owner is not None}
        owners = list(dict.fromkeys(named.values()))
        with client.pipeline(transaction=False) as pipe:
            for org, key_id in owners:
                pipe.hget(self._schema.keys(org_member(org)), key_member(key_id))
            found = zip(owners, pipe.execute(), strict=True)
        records = {owner: keys.decode_record(raw) for owner, raw in found if raw is not None}
        return {name: records[owner] for name, owner in named.items() if owner in records and name in records[owner].secrets}

    def _claimed(self, org: str, key_id: str, secret: str) -> str:
        hidden, owner = self._pepper.hide(self.digest(secret)), _owner(org, key_id)
        other = self._script(_CLAIM, [self._schema.credentials], hidden, owner, "")
        if other and not self._owners(self._engine.client, [hidden]):
            # Only left over by an interrupted put or remove.
            other = self._script(_CLAIM, [self._schema.credentials], hidden, owner, other)
        if other:
            raise ConfigurationError("this secret belongs to another key already; drop_secret or remove it there first")
        return hidden

    def _release(self, record: Record, hidden: Iterable[str]) -> None:
        owner = _owner(record.key.org or DEFAULT_ORG, record.key.id)
        self._script(_RELEASE, [self._schema.credentials], owner, *hidden)

    def _record(self, org: str, key_id: str) -> Record | None:
        raw = self._engine.client.hget(self._schema.keys(org_member(org)), key_member(key_id))
        return keys.decode_record(raw) if raw else None

    def _change(
        self, org: str, key_id: str, change: Callable[[Record | None], Record | None]
    ) -> tuple[Record | None, Record | None]:
        """Change a record, and no other process's change is lost. Returns the record before and after."""
        tree, member = org_member(org), key_member(key_id)
        for _ in range(_TRIES):
            raw = self._engine.client.hget(self._schema.keys(tree), member) or b""
            old = keys.decode_record(raw) if raw else None
            new = change(old)
            if new == old or self._swapped(tree, member, raw, old, new):
                return old, new
        raise UsageUnavailable("other processes keep changing the same API key; try again")

    def _swapped(self, tree: str, member: str, raw: bytes, old: Record | None, new: Record | None) -> bool:
        names = [self._schema.keys(tree), self._schema.keys_by_name(tree), self._schema.revoked_keys_by_name(tree)]
        sort_keys = [keys.sort_key(record.key.name, member) if record else b"" for record in (old, new)]
        order = 3 if new is not None and new.key.revoked_at is not None else 2
        return bool(self._script(_SWAP, names, member, raw, keys.encode_record(new) if new else "", *sort_keys, order))

    def _script(self, script: str, names: Collection[str], *arguments: str | bytes | int) -> Any:
        return self._engine.client.execute_command("EVAL", script, len(names), *names, *arguments)

    def _orders(self, org: str, include_revoked: bool) -> tuple[str, ...]:
        tree = org_member(org)
        active = self._schema.keys_by_name(tree)
        return (active, self._schema.revoked_keys_by_name(tree)) if include_revoked else (active,)

    def _sort_keys(self, name: str, after: tuple[str, str] | None, limit: int | None) -> Iterator[bytes]:
        start = b"-" if after is None else b"(" + keys.sort_key(after[0], key_member(after[1]))
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
            replies = self._engine.read_client.hmget(name, some)
            found.update((member, keys.decode_key(raw)) for member, raw in zip(some, replies, strict=True) if raw is not None)
        return found


def _owner_of(hidden: str, record: Record | None) -> Owner:
    if record is None:
        return Owner(DEFAULT_ORG, f"key_{hidden[:16]}", False)
    return Owner(org_member(record.key.org), key_member(record.key.id), True, record.key.revoked_at)


def _owner(org: str, key_id: str) -> str:
    return json.dumps([org, key_id])
