"""Changes the key directory in Redis, so that no other process's change is lost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store import keys
from usage_middleware.store.engine import Engine
from usage_middleware.store.key_records import PAGE, KeyRecords
from usage_middleware.store.keys import Record
from usage_middleware.store.members import key_member, org_member
from usage_middleware.store.pepper import Pepper
from usage_middleware.store.schema import Schema

_TRIES = 50
_TAKEN = "this secret belongs to another key already; drop_secret or remove it there first"
#: So many credentials go over to a new pepper at once: each takes some four round trips.
MOST_MOVED = 100

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


class KeyChanges:
    """Writes records of API keys, and which credentials are theirs."""

    def __init__(self, engine: Engine, schema: Schema, records: KeyRecords, pepper: Pepper) -> None:
        self._engine = engine
        self._schema = schema
        self._records = records
        self._pepper = pepper

    def claim(self, org: str, key_id: str, digest: bytes) -> str:
        """Give a credential to a key; its hash.

        Raises:
            ConfigurationError: it belongs to another key.
        """
        if self._is_others(org, key_id, digest):
            raise ConfigurationError(_TAKEN)
        hidden, owner = self._pepper.hide(digest), keys.encode_owner(org, key_id)
        other = self._script(_CLAIM, [self._schema.credentials], hidden, owner, "")
        if other and not self._records.owners(self._engine.client, [hidden]):
            # Only left over by an interrupted put or remove.
            other = self._script(_CLAIM, [self._schema.credentials], hidden, owner, other)
        if other:
            raise ConfigurationError(_TAKEN)
        return hidden

    def _is_others(self, org: str, key_id: str, digest: bytes) -> bool:
        """Whether another key has a credential under an older pepper."""
        if not self._pepper.is_rotating:
            return False
        found = self._records.owners(self._engine.client, self._pepper.all(digest)[1:]).values()
        return any((record.key.org, record.key.id) != (org, key_id) for record in found)

    def release(self, record: Record, hidden: Collection[str]) -> None:
        """Take credentials from a key."""
        owner = keys.encode_owner(record.key.org or DEFAULT_ORG, record.key.id)
        self._script(_RELEASE, [self._schema.credentials], owner, *hidden)
        if self._pepper.is_rotating and hidden:
            self._engine.client.srem(self._schema.rotated(self._pepper.mark), *hidden)

    def rotate(self, found: Mapping[bytes, tuple[str, Record]]) -> None:
        """Have credentials under the newest pepper: digest -> the hash under which it was found, and its key."""
        newest = [self._pepper.hide(digest) for digest in found]
        moving = [pair for pair in zip(newest, found.values(), strict=True) if pair[0] != pair[1][0]][:MOST_MOVED]
        left = {old for _, (old, _) in moving}
        for new, (old, record) in moving:
            if self._moved(record, old, new):
                left.discard(old)
        there = [new for new, (old, _) in zip(newest, found.values(), strict=True) if new == old]
        there += [new for new, (old, _) in moving if old not in left]
        if there:
            self._engine.client.sadd(self._schema.rotated(self._pepper.mark), *there)

    def _moved(self, record: Record, old: str, new: str) -> bool:
        org, key_id = record.key.org or DEFAULT_ORG, record.key.id
        if self._script(_CLAIM, [self._schema.credentials], new, keys.encode_owner(org, key_id), ""):
            return False
        before, _ = self.change(org, key_id, lambda found: found and keys.with_other_hash(found, old, new))
        self.release(record, (old,))
        return before is not None

    def record(self, org: str, key_id: str) -> Record | None:
        """A record as it is now; None if there is none, or it is damaged."""
        tree, member = org_member(org), key_member(key_id)
        raw = self._engine.client.hget(self._schema.keys(tree), member)
        return self._records.read(tree, member, raw) if raw else None

    def change(
        self, org: str, key_id: str, change: Callable[[Record | None], Record | None], *, also_damaged: bool = False
    ) -> tuple[Record | None, Record | None]:
        """Change a record, and no other process's change is lost. Returns the record before and after.

        A damaged one counts as missing. It is replaced by a new one; by none only if `also_damaged`.
        """
        tree, member = org_member(org), key_member(key_id)
        for _ in range(_TRIES):
            raw = self._engine.client.hget(self._schema.keys(tree), member) or b""
            old = self._records.read(tree, member, raw) if raw else None
            new = change(old)
            if new == old and not (raw and also_damaged):
                return old, new
            if self._swapped(tree, member, raw, old, new):
                if raw and old is None:
                    self._forget_names(tree, member, new)
                return old, new
        raise UsageUnavailable("other processes keep changing the same API key; try again")

    def _swapped(self, tree: str, member: str, raw: bytes, old: Record | None, new: Record | None) -> bool:
        names = [self._schema.keys(tree), self._schema.keys_by_name(tree), self._schema.revoked_keys_by_name(tree)]
        sort_keys = [keys.sort_key(record.key.name, member) if record else b"" for record in (old, new)]
        order = 3 if new is not None and new.key.revoked_at is not None else 2
        return bool(self._script(_SWAP, names, member, raw, keys.encode_record(new) if new else "", *sort_keys, order))

    def _forget_names(self, tree: str, member: str, new: Record | None) -> None:
        """Remove the sort keys of a record that was damaged: nobody knows the name that it had."""
        kept = keys.sort_key(new.key.name, member) if new else b""
        for name in (self._schema.keys_by_name(tree), self._schema.revoked_keys_by_name(tree)):
            for sort_key, _ in self._engine.client.zscan_iter(name, count=PAGE):
                if keys.member_of(sort_key) == member.encode() and sort_key != kept:
                    self._engine.client.zrem(name, sort_key)

    def _script(self, script: str, names: Collection[str], *arguments: str | bytes | int) -> Any:
        return self._engine.client.execute_command("EVAL", script, len(names), *names, *arguments)
