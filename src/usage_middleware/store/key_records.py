"""Reads the key directory in Redis. What is damaged there counts as missing, and is named in `engine.damage`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, TypeVar

from usage_middleware.store import keys
from usage_middleware.store.engine import Engine
from usage_middleware.store.keys import KeyInfo, Record
from usage_middleware.store.members import key_member, org_member
from usage_middleware.store.schema import Schema

T = TypeVar("T")

#: How many are asked for at once.
PAGE = 1_000
#: So much of a credential's digest names it where it is damaged.
_SHOWN = 16


class KeyRecords:
    """The records of API keys, by their key or by a credential."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        self._engine = engine
        self._schema = schema

    def owners(self, client: Any, hidden: Collection[str]) -> dict[str, Record]:
        """Credential -> its key. Only where both say so: an interrupted put or remove may leave one of them."""
        if not hidden:
            return {}
        replies = self._credentials(client, list(hidden))
        named: dict[str, tuple[str, str]] = {}
        for name, raw in zip(hidden, replies, strict=True):
            owner = None if raw is None else keys.decode_owner(raw)
            if owner is not None:
                named[name] = owner
            elif raw is not None:
                self._damaged(self._schema.credentials, f"{name[:_SHOWN]}... names no key")
        found = self._records(client, list(dict.fromkeys(named.values())))
        return {name: found[owner] for name, owner in named.items() if owner in found and name in found[owner].secrets}

    def orgs(self, orgs: Collection[str]) -> list[str]:
        """Those organisations that have a key."""
        with self._engine.client.pipeline(transaction=False) as pipe:
            for org in orgs:
                pipe.execute_command("EXISTS", self._schema.keys(org_member(org)))
            return [org for org, found in zip(orgs, pipe.execute(), strict=True) if found]

    def _credentials(self, client: Any, hidden: list[str]) -> list[bytes | None]:
        try:
            replies: list[bytes | None] = client.hmget(self._schema.credentials, hidden)
        except Exception as error:
            self._engine.damage.explains(error, self._schema.credentials)
            raise
        return replies

    def _records(self, client: Any, owners: list[tuple[str, str]]) -> dict[tuple[str, str], Record]:
        with client.pipeline(transaction=False) as pipe:
            for org, key_id in owners:
                pipe.hget(self._schema.keys(org_member(org)), key_member(key_id))
            replies = pipe.execute(raise_on_error=False)
        found = ((owner, self._record(*owner, reply)) for owner, reply in zip(owners, replies, strict=True))
        return {owner: record for owner, record in found if record is not None}

    def _record(self, org: str, key_id: str, reply: Any) -> Record | None:
        if isinstance(reply, Exception):
            if not self._engine.damage.explains(reply, self._schema.keys(org_member(org))):
                raise reply
            return None
        return None if reply is None else self.read(org_member(org), key_member(key_id), reply)

    def read(self, tree: str, member: str, raw: bytes) -> Record | None:
        """A record as Redis has it; None if it is damaged."""
        found = keys.decode_record(raw)
        if found is None:
            self._damaged(self._schema.keys(tree), f"{member} is no record of an API key")
        return found

    def keys(self, org: str, members: Collection[bytes]) -> dict[bytes, KeyInfo]:
        """Member -> key, of those that exist."""
        found: dict[bytes, KeyInfo] = {}
        tree, wanted = org_member(org), list(members)
        name = self._schema.keys(tree)
        for begin in range(0, len(wanted), PAGE):
            some = wanted[begin : begin + PAGE]
            nothing: list[bytes | None] = []
            replies = self._sound(name, partial(self._engine.read_client.hmget, name, some), nothing)
            for member, raw in zip(some, replies, strict=False):
                record = None if raw is None else self.read(tree, member.decode(errors="replace"), raw)
                if record is not None:
                    found[member] = record.key
        return found

    def sort_keys(self, name: str, after: tuple[str, str] | None, limit: int | None) -> Iterator[bytes]:
        """The sort keys in one of the two orders by name, after the (name, id) `after`; at least `limit`, if there are."""
        start = b"-" if after is None else b"(" + keys.sort_key(after[0], key_member(after[1]))
        size = PAGE if limit is None else min(limit, PAGE)
        while size > 0:
            page = self._page(name, start, size)
            yield from page
            if len(page) < size:
                return
            start = b"(" + page[-1]

    def _page(self, name: str, start: bytes, size: int) -> list[bytes]:
        return self._sound(name, lambda: self._engine.read_client.zrangebylex(name, start, "+", 0, size), [])

    def count(self, org: str) -> int:
        """How many active keys an organisation has."""
        name = self._schema.keys_by_name(org_member(org))
        return int(self._sound(name, lambda: self._engine.read_client.zcard(name), 0))

    def _sound(self, name: str, read: Callable[[], T], otherwise: T) -> T:
        """What is read, or `otherwise` where the Redis key holds another type."""
        try:
            return read()
        except Exception as error:
            if not self._engine.damage.explains(error, name):
                raise
            return otherwise

    def _damaged(self, where: str, what: str) -> None:
        self._engine.damage.note(where, what)
