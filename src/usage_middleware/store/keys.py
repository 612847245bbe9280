"""API keys: what is known of one, what a directory of keys answers, and how a key is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Collection, Mapping
from sys import intern
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import DEFAULT_ORG


class KeyInfo(msgspec.Struct, frozen=True, gc=False):
    """One API key. Its secret is stored nowhere, only a keyed hash of it.

    Attributes:
        id: what its calls are counted under; any text, unique within its organisation.
        name: what people call it.
        environment: `live`, `test`, or any other text.
        org: its organisation; filled in by the directory.
        revoked_at: when it was revoked, in seconds since the epoch; None for an active key.
        created_at: when it was first put, in seconds since the epoch; filled in by the directory.
        owner: who answers for it: a person, a team.
        labels: what costs are divided by, for instance {"team": "search"}.
    """

    id: str
    name: str
    environment: str = "live"
    org: str | None = None
    revoked_at: float | None = None
    created_at: float | None = None
    owner: str | None = None
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)


KeyInfos: TypeAlias = "list[KeyInfo]"


class Owner(NamedTuple):
    """Whose a credential is.

    Attributes:
        org: the organisation.
        key: the id of its key.
        known: whether the directory knows the credential.
        revoked_at: when the key was revoked, in seconds since the epoch; None for an active one.
    """

    org: str
    key: str
    known: bool
    revoked_at: float | None = None


#: What `resolve` returns: digest of a credential -> organisation, key id, True, and when the key was revoked, if it was.
Answers: TypeAlias = Mapping[bytes, tuple[str, str, bool] | tuple[str, str, bool, float | None]]
#: Digest of a credential -> whose it is, as members.
Resolved: TypeAlias = dict[bytes, Owner]

#: What a header can carry: ASCII that can be seen, and blanks between.
_SECRET = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Directory(Protocol):
    """What a key directory answers. Any object with these methods may take the place of `KeyDirectory`."""

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> KeyInfos:
        """The keys of an organisation by name, then id: at most `limit`, after the (name, id) `after`."""

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        """One key, revoked or not; None if there is none."""

    def get_many(self, org: str, key_ids: Collection[str]) -> dict[str, KeyInfo]:
        """Id -> key, of those that exist."""

    def count(self, org: str) -> int:
        """How many active keys an organisation has."""

    def find(self, secret: str) -> KeyInfo | Awaitable[KeyInfo | None] | None:
        """The key with this secret, revoked or not; None if there is none. In ASGI it may be async: only `KeyAuth` asks."""

    def resolve(self, digests: Collection[bytes]) -> Answers:
        """The keys of credentials, given by `KeyDirectory.digest`. Unknown ones are left out."""


class Record(msgspec.Struct, frozen=True):
    """What is stored of a key: its description, and the peppered hashes of its secrets."""

    key: KeyInfo
    secrets: tuple[str, ...] = ()


class _Stored(KeyInfo, frozen=True, kw_only=True):
    secrets: tuple[str, ...]


_decode = msgspec.json.Decoder(_Stored).decode
#: Not in the record, see `store/key_labels.py`.
_KEPT_APART = ("owner", "labels")
#: The year 10,000, seconds since the epoch: no time is later.
_LATEST = 253_402_300_800


def encode_record(record: Record) -> str:
    """A record as JSON. In ASCII, which also keeps text that is no valid UTF-8."""
    fields = {name: value for name, value in msgspec.structs.asdict(record.key).items() if name not in _KEPT_APART}
    return json.dumps({**fields, "secrets": record.secrets})


def decode_record(raw: bytes) -> Record | None:
    """The record that `encode_record` wrote; None if it is damaged."""
    try:
        found = _decoded(raw)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if not found.id or not 0 <= (found.created_at or 0) < _LATEST or not 0 <= (found.revoked_at or 0) < _LATEST:
        return None
    # Of 100,000 keys of an organisation, each would have its own copy of these words.
    environment, org = intern(found.environment), None if found.org is None else intern(found.org)
    key = KeyInfo(found.id, found.name, environment, org, found.revoked_at, found.created_at)
    return Record(key, found.secrets)


def _decoded(raw: bytes) -> _Stored:
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        # Lone surrogates, which only the standard library reads.
        return msgspec.convert(json.loads(raw), _Stored)


def encode_owner(org: str, key_id: str) -> str:
    """What is stored of a credential: whose it is."""
    return json.dumps([org, key_id])


def decode_owner(raw: bytes) -> tuple[str, str] | None:
    """The organisation and the key id that `encode_owner` wrote; None if it is damaged."""
    try:
        return msgspec.convert(json.loads(raw), tuple[str, str])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None


def require_key(org: str, key: KeyInfo, secret: str | None) -> None:
    """Check what is given to `put`.

    Raises:
        ConfigurationError: something is no string, or the id or the secret is empty.
    """
    if not isinstance(key, KeyInfo):
        raise ConfigurationError(f"give a KeyInfo, as in KeyInfo(id='key_7', name='Search backend'), not {key!r:.40}")
    texts = {"organisation": org, "id": key.id, "name": key.name, "environment": key.environment}
    for what, value in texts.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"the {what} of an API key must be a string, not {value!r}")
    if not key.id:
        raise ConfigurationError("an API key needs an id")
    if org in ("", DEFAULT_ORG):
        raise ConfigurationError(
            f"no customer can be called {org!r}: {DEFAULT_ORG!r} is where calls of nobody are counted, and its keys would see "
            "those of strangers; choose another name for the organisation"
        )
    if secret is not None:
        _require_secret(secret)


def _require_secret(secret: object) -> None:
    if not isinstance(secret, str):
        raise ConfigurationError(f"the secret of an API key must be a string, not {type(secret).__name__}")
    if not secret:
        raise ConfigurationError("the secret of an API key can't be empty; leave it out for a key without one")
    if not _SECRET.fullmatch(secret):
        raise ConfigurationError(
            "the secret of an API key must be printable ASCII without blanks at its ends: no header can carry anything else"
        )


def merge(
    old: Record | None, org: str, key: KeyInfo, hidden: tuple[str, ...], now: float, *, reactivate: bool = False
) -> Record:
    """The record after `put`; `now` in seconds since the epoch.

    Raises:
        ConfigurationError: another key is counted under the same name, or the key is revoked.
    """
    if old is None:
        created = now if key.created_at is None else key.created_at
        return Record(msgspec.structs.replace(key, org=org, created_at=created), hidden)
    if (old.key.org, old.key.id) != (org, key.id):
        raise ConfigurationError("another API key has an id that is counted under the same name; choose another id")
    if old.key.revoked_at is not None and key.revoked_at is None and not reactivate:
        raise ConfigurationError(f"the API key {key.id!r} is revoked; put(..., reactivate=True) brings it back")
    revoked = key.revoked_at if reactivate or old.key.revoked_at is None else old.key.revoked_at
    found = msgspec.structs.replace(old.key, name=key.name, environment=key.environment, revoked_at=revoked)
    return Record(found, tuple(dict.fromkeys((*old.secrets, *hidden))))


def revoke(old: Record, now: float) -> Record:
    """The record after `revoke`."""
    if old.key.revoked_at is not None:
        return old
    return Record(msgspec.structs.replace(old.key, revoked_at=now), old.secrets)


def without_secrets(old: Record, hidden: Collection[str]) -> Record:
    """The record without some of its secrets."""
    return Record(old.key, tuple(other for other in old.secrets if other not in hidden))


def with_other_hash(record: Record, old: str, new: str) -> Record:
    """The record with one of its secrets under another hash."""
    return Record(record.key, tuple(dict.fromkeys(new if hidden == old else hidden for hidden in record.secrets)))


def sort_key(name: str, member: str) -> bytes:
    r"""What sorts keys by name: `name NUL member`, escaped so that bytes sort as names do.

    >>> sort_key("Search", "key_7")
    b'Search\x00key_7'
    """
    raw = name.encode("utf-8", "surrogatepass")
    return raw.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1") + b"\0" + member.encode()


def member_of(sort_key: bytes) -> bytes:
    """The member in a sort key."""
    return sort_key.partition(b"\0")[2]


def name_of(sort_key: bytes) -> str:
    """The name in a sort key. What is damaged there is shown as well as it can be."""
    raw = sort_key.partition(b"\0")[0]
    if b"\1" in raw:
        raw = raw.replace(b"\1\1", b"\0").replace(b"\1\2", b"\1")
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode(errors="replace")
