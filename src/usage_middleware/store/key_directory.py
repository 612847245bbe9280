"""The key directory in Redis: the API keys of each organisation, their names, and which credential belongs to which key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any

from usage_middleware.credentials import credential_digest
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store import keys
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.engine import Engine
from usage_middleware.store.key_changes import KeyChanges
from usage_middleware.store.key_labels import KeyLabels, require_labels
from usage_middleware.store.key_records import PAGE, KeyRecords
from usage_middleware.store.keys import KeyInfo, KeyInfos, Owner, Record, Resolved
from usage_middleware.store.members import key_member, org_member
from usage_middleware.store.pepper import Pepper, PepperOption, PepperStatus
from usage_middleware.store.schema import Schema
from usage_middleware.store.ttl_cache import TTLCache

logger = logging.getLogger("usage_middleware")

#: For how many seconds `resolve` caches a credential, and how many credentials.
CACHED_SECONDS = 60.0
CACHED_CREDENTIALS = 10_000


class KeyDirectory:
    """The key directory in Redis. Every method raises `UsageUnavailable` if Redis does not answer.

    Secrets are stored as keyed hashes only. A key may have several secrets, to rotate them: put the new one, change the
    clients, drop the old one.
    """

    def __init__(self, engine: Engine, schema: Schema, pepper: PepperOption = None, *, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._schema = schema
        self._clock = clock
        self._records = KeyRecords(engine, schema)
        self._labels = KeyLabels(engine, schema)
        self._pepper = Pepper(engine, schema.pepper, pepper, clock)
        self._changes = KeyChanges(engine, schema, self._records, self._pepper)
        self._cache: TTLCache[bytes, Owner] = TTLCache(clock, seconds=CACHED_SECONDS, size=CACHED_CREDENTIALS)

    @staticmethod
    def digest(secret: str) -> bytes:
        """The digest that takes the place of a secret at once: BLAKE2b-256, 32 bytes."""
        return credential_digest(secret)

    def put(self, org: str, key: KeyInfo, secret: str | None = None, *, reactivate: bool = False) -> KeyInfo:
        """Add a key, or change its name and environment, and give it one more secret. Returns the key as it is now.

        An existing key keeps its secrets and `created_at`, and its owner and labels where none are given; what is given as an
        empty text goes. With `reactivate`, a revoked one is active again.

        Raises:
            ConfigurationError: the key is revoked and `reactivate` is False; the organisation is `default`; the id or the
                secret is empty or belongs to another key; the secret is nothing that a header can carry; or something is no
                string.
        """
        keys.require_key(org, key, secret)
        require_labels(key)
        with self._engine.guard():
            # Refused before the secret is claimed.
            keys.merge(self._changes.record(org, key.id), org, key, (), self._clock(), reactivate=reactivate)
            hidden = () if secret is None else (self._changes.claim(org, key.id, self.digest(secret)),)
            _, new = self._changes.change(
                org, key.id, lambda old: keys.merge(old, org, key, hidden, self._clock(), reactivate=reactivate)
            )
            assert new is not None
            found = self._labels.put(org, key, new.key)
        self._cache.clear()
        return found

    def revoke(self, org: str, key_id: str) -> bool:
        """Make a key invalid. Its calls, name and secrets stay, so that refused calls still count as its own.

        Returns False if there is no such key. To revoke a key twice changes nothing.
        """
        with self._engine.guard():
            old, _ = self._changes.change(org, key_id, lambda old: old and keys.revoke(old, self._clock()))
        self._cache.clear()
        return old is not None

    def remove(self, org: str, key_id: str) -> bool:
        """Delete a key and its secrets; counted calls stay. Returns False if there is no such key.

        A damaged record is deleted too. Nobody knows any more which secrets it had; they belong to no key.
        """
        with self._engine.guard():
            # The record first. A credential without a record belongs to no key, so an interruption does no harm.
            old, _ = self._changes.change(org, key_id, lambda old: None, also_damaged=True)
            if old is not None:
                self._changes.release(old, old.secrets)
            self._labels.remove(org, [key_id])
        self._cache.clear()
        return old is not None

    def drop_secret(self, org: str, key_id: str, secret: str) -> bool:
        """Take one secret from a key, at the end of a rotation. Returns False if the key does not have it."""
        with self._engine.guard():
            hidden = self._pepper.all(self.digest(secret))
            old, _ = self._changes.change(org, key_id, lambda old: old and keys.without_secrets(old, hidden))
            had = old is not None and not set(hidden).isdisjoint(old.secrets)
            if old is not None and had:
                self._changes.release(old, hidden)
        self._cache.clear()
        return had

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> KeyInfos:
        """The keys of an organisation by name, then id: at most `limit`, after the (name, id) `after`."""
        found: KeyInfos = []
        with self._engine.guard():
            for page in self._pages(org, after, limit, include_revoked):
                found += page
        return found

    def each(self, org: str, *, include_revoked: bool = False) -> Iterator[KeyInfo]:
        """As `list`, of all keys; of 100,000 only a thousand at a time are in memory."""
        with self._engine.guard():
            for page in self._pages(org, None, None, include_revoked):
                yield from page

    def _pages(self, org: str, after: tuple[str, str] | None, limit: int | None, include_revoked: bool) -> Iterator[KeyInfos]:
        sort_keys = merge(*(self._records.sort_keys(name, after, limit) for name in self._orders(org, revoked=include_revoked)))
        members = map(keys.member_of, islice(sort_keys, limit))
        while page := list(islice(members, PAGE)):
            labelled = self._labels.add_to(org, self._records.keys(org, page)).values()
            yield [key for key in labelled if include_revoked or key.revoked_at is None]

    def names(self, org: str, *, active: bool = True, revoked: bool = False) -> Iterator[tuple[str, str]]:
        """(member, name) of each key that is active, revoked, or either, by name, then id. No record is read."""
        with self._engine.guard():
            orders = self._orders(org, active=active, revoked=revoked)
            for sort_key in merge(*(self._records.sort_keys(name, None, None) for name in orders)):
                yield keys.member_of(sort_key).decode(errors="replace"), keys.name_of(sort_key)

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        """One key, revoked or not; None if there is none."""
        return self.get_many(org, [key_id]).get(key_id)

    def get_many(self, org: str, key_ids: Collection[str]) -> dict[str, KeyInfo]:
        """Id -> key, of those that exist."""
        with self._engine.guard():
            records = self._records.keys(org, [key_member(key_id).encode() for key_id in key_ids])
            found = self._labels.add_to(org, records)
        by_member = {key_id: found.get(key_member(key_id).encode()) for key_id in key_ids}
        return {key_id: key for key_id, key in by_member.items() if key is not None}

    def of_members(self, org: str, members: Collection[str]) -> dict[str, KeyInfo]:
        """As `get_many`, of keys as they are counted: `names` has them so."""
        with self._engine.guard():
            found = self._labels.add_to(org, self._records.keys(org, [member.encode() for member in members]))
        return {member.decode(): key for member, key in found.items()}

    def count(self, org: str) -> int:
        """How many active keys an organisation has."""
        with self._engine.guard():
            return self._records.count(org)

    def known_orgs(self, orgs: Collection[str]) -> set[str]:
        """Which of these organisations have a key, active or revoked."""
        wanted = list(orgs)
        with self._engine.guard():
            return {org for begin in range(0, len(wanted), PAGE) for org in self._records.orgs(wanted[begin : begin + PAGE])}

    def find(self, secret: str) -> KeyInfo | None:
        """The key with this secret, revoked or not; None if there is none."""
        with self._engine.guard():
            digest = self.digest(secret)
            found = self._found(self._engine.read_client, [digest]).get(digest)
            if found is None:
                return None
            key = found[1].key
            return self._labels.add_to(key.org or DEFAULT_ORG, {key_member(key.id).encode(): key}).popitem()[1]

    def resolve(self, digests: Collection[bytes]) -> Resolved:
        """The keys of credentials: digest -> (organisation, key, known, revoked_at), the first two as members.

        An unknown credential is `("default", "key_<16 hex digits of its hash>", False, None)`. Results are cached for 60 s,
        so a change by another process may be seen that late. Takes two round trips for 1,000 new digests.
        """
        found = self._cache.known(digests)
        missing = [digest for digest in dict.fromkeys(digests) if digest not in found]
        for begin in range(0, len(missing), PAGE):
            asked_at = self._cache.generation
            with self._engine.guard():
                some = self._resolve(missing[begin : begin + PAGE])
            self._cache.keep(some, asked_at)
            found.update(some)
        return found

    def _resolve(self, digests: Collection[bytes]) -> Resolved:
        found = self._found(self._engine.client, digests)
        return {digest: _owner_of(self._pepper.oldest(digest), found.get(digest)) for digest in digests}

    def unknown(self, digests: Collection[bytes]) -> Resolved:
        """As `resolve`, of credentials that are known to be unknown."""
        with self._engine.guard():
            return {digest: _owner_of(self._pepper.oldest(digest), None) for digest in digests}

    def _found(self, client: Any, digests: Collection[bytes]) -> dict[bytes, tuple[str, Record]]:
        """Of those that are known: digest -> the hash under which it is, and its key."""
        found = self._places(client, digests)
        if self._pepper.is_rotating:
            # Another process may have moved one while it was looked for.
            found |= self._places(client, [digest for digest in digests if digest not in found])
            self._rotate(found)
        return found

    def _places(self, client: Any, digests: Collection[bytes]) -> dict[bytes, tuple[str, Record]]:
        hidden = {digest: self._pepper.all(digest) for digest in digests}
        owners = self._records.owners(client, [one for many in hidden.values() for one in many])
        places = {digest: next((one for one in many if one in owners), None) for digest, many in hidden.items()}
        return {digest: (one, owners[one]) for digest, one in places.items() if one is not None}

    def _rotate(self, found: Mapping[bytes, tuple[str, Record]]) -> None:
        try:
            self._changes.rotate(found)
        except redis_errors() as error:
            # A process that may only read leaves it to others.
            logger.debug("usage: credentials stay under an older pepper for now: %s", error)

    def pepper_status(self) -> PepperStatus:
        """Where the pepper is, and how far its rotation has come."""
        client = self._engine.read_client
        with self._engine.guard():
            in_redis = bool(client.exists(self._schema.pepper))
            if not self._pepper.is_rotating:
                return PepperStatus(self._pepper.is_in_redis, in_redis)
            moved = client.scard(self._schema.rotated(self._pepper.mark))
            left = max(0, int(client.hlen(self._schema.credentials)) - int(moved))
            return PepperStatus(self._pepper.is_in_redis, in_redis, left)

    def _orders(self, org: str, *, active: bool = True, revoked: bool) -> Sequence[str]:
        """The Redis keys of the orders by name: of active keys, of revoked ones, or of both."""
        tree = org_member(org)
        found = (self._schema.keys_by_name(tree), active), (self._schema.revoked_keys_by_name(tree), revoked)
        return [name for name, is_wanted in found if is_wanted]


def _owner_of(hidden: str, found: tuple[str, Record] | None) -> Owner:
    if found is None:
        return Owner(DEFAULT_ORG, f"key_{hidden[:16]}", False)
    key = found[1].key
    return Owner(org_member(key.org), key_member(key.id), True, key.revoked_at)
