"""What is kept of one API key, as text, and what a change makes of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from usage_middleware.errors import ConfigurationError


class KeyInfo(msgspec.Struct, frozen=True):
    """One API key. The secret itself is not here, and nowhere else.

    Attributes:
        id: what its calls are counted under; any text, unique within its organisation.
        name: what people call it.
        environment: `live`, `test`, or what you like.
        org: its organisation; filled in by the directory.
        revoked_at: since when it is not valid any more, in seconds since the epoch; None of an active key.
        created_at: when it was put first, in seconds since the epoch; filled in by the directory.
    """

    id: str
    name: str
    environment: str = "live"
    org: str | None = None
    revoked_at: float | None = None
    created_at: float | None = None


class Record(msgspec.Struct, frozen=True):
    """What is kept: the key, and the hidden digests of its secrets. A credential is valid where it and its key agree."""

    key: KeyInfo
    secrets: tuple[str, ...] = ()


_decode_info = msgspec.json.Decoder(KeyInfo).decode


def encoded(record: Record) -> str:
    """A record as it stands in Redis: JSON, in ASCII, so that text that is no UTF-8 comes back too."""
    return json.dumps({**msgspec.structs.asdict(record.key), "secrets": record.secrets})


def decoded_key(raw: bytes) -> KeyInfo:
    """The key of a record."""
    try:
        return _decode_info(raw)
    except msgspec.DecodeError:
        # Lone surrogates, which only the standard library reads.
        kept: dict[str, Any] = json.loads(raw)
        del kept["secrets"]
        return KeyInfo(**kept)


def decoded(raw: bytes) -> Record:
    """A record."""
    return Record(decoded_key(raw), tuple(json.loads(raw)["secrets"]))


def checked(org: str, key: KeyInfo, secret: str | None) -> None:
    """Refuse what is no text, and an empty id or secret.

    Raises:
        ConfigurationError: saying which.
    """
    if not isinstance(key, KeyInfo):
        raise ConfigurationError(f"give a KeyInfo, as in KeyInfo(id='key_7', name='Search backend'), not {key!r:.40}")
    texts = {"organisation": org, "id": key.id, "name": key.name, "environment": key.environment}
    for what, value in texts.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"the {what} of an API key must be a string, not {value!r}")
    if not key.id:
        raise ConfigurationError("an API key needs an id")
    if secret is not None and not secret:
        raise ConfigurationError("the secret of an API key can't be empty; leave it out for a key without one")


def merged(old: Record | None, org: str, key: KeyInfo, hidden: tuple[str, ...], now: float) -> Record:
    """What `put` makes of a record."""
    if old is None:
        created = now if key.created_at is None else key.created_at
        return Record(msgspec.structs.replace(key, org=org, created_at=created), hidden)
    if (old.key.org, old.key.id) != (org, key.id):
        raise ConfigurationError("another API key has an id that is counted under the same name; choose another id")
    revoked = key.revoked_at if old.key.revoked_at is None else old.key.revoked_at
    found = msgspec.structs.replace(old.key, name=key.name, environment=key.environment, revoked_at=revoked)
    return Record(found, tuple(dict.fromkeys((*old.secrets, *hidden))))


def revoked(old: Record, now: float) -> Record:
    """What `revoke` makes of a record."""
    if old.key.revoked_at is not None:
        return old
    return Record(msgspec.structs.replace(old.key, revoked_at=now), old.secrets)


def without(old: Record, hidden: str) -> Record:
    """A record without one of its secrets."""
    return Record(old.key, tuple(other for other in old.secrets if other != hidden))


def place(name: str, member: str) -> bytes:
    r"""Where a key stands in the order of names: `name NUL member`, so escaped that the order of bytes is that of names.

    >>> place("Search", "key_7")
    b'Search\x00key_7'
    """
    raw = name.encode("utf-8", "surrogatepass")
    return raw.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1") + b"\0" + member.encode()


def member_at(place: bytes) -> bytes:
    """The member of a place."""
    return place.partition(b"\0")[2]
