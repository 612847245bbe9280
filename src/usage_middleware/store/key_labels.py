"""Who answers for an API key, and its labels.

They are kept beside the key's record: an older version that writes the record doesn't know them, and would drop them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.driver_errors import is_wrong_type
from usage_middleware.store.engine import Engine
from usage_middleware.store.keys import KeyInfo
from usage_middleware.store.members import key_member, org_member
from usage_middleware.store.schema import Schema
from usage_middleware.store.swap import change_field

MOST_LABELS, MOST_BYTES = 20, 128
#: So many keys are looked up at once.
_MANY = 50
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class _Kept(msgspec.Struct, omit_defaults=True):
    """What is kept of a key.

    Attributes:
        created_at: that of the key: a later key of the same id has not these.
    """

    created_at: float | None = None
    owner: str | None = None
    labels: dict[str, str] = {}


_decoder = msgspec.json.Decoder(_Kept)


def require_labels(key: KeyInfo) -> None:
    """Check the owner and the labels of a key.

    Raises:
        ConfigurationError: saying what is allowed.
    """
    if key.owner is not None and not _is_text(key.owner):
        raise ConfigurationError(
            f"the owner of an API key must be a string of {MOST_BYTES} bytes at most, not {key.owner!r:.100}"
        )
    if not isinstance(key.labels, Mapping) or len(key.labels) > MOST_LABELS:
        raise ConfigurationError(f"the labels of an API key must be a dict, {MOST_LABELS} at most, not {key.labels!r:.100}")
    for name, value in key.labels.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not _is_text(value):
            raise ConfigurationError(
                f"labels of an API key have names of a-z, 0-9, '_', '.', '-', 64 at most, and values that are strings of "
                f"{MOST_BYTES} bytes at most, not {name!r:.80}: {value!r:.100}"
            )


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and len(value.encode()) <= MOST_BYTES and not value.startswith("(")
    except UnicodeEncodeError:
        return False


class KeyLabels:
    """Reads and changes owners and labels of API keys."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        self._engine = engine
        self._schema = schema

    def put(self, org: str, given: KeyInfo, key: KeyInfo) -> KeyInfo:
        """The key, with its owner and labels after `given` was put. What isn't given stays; what is empty goes."""
        name, member = self._schema.key_labels(org_member(org)), key_member(key.id)
        if given.owner is None and not given.labels:
            return self.add_to(org, {member.encode(): key})[member.encode()]
        kept = _Kept()

        def change(old: str) -> str:
            nonlocal kept
            before = _decoded(old, key)
            labels = {label: value for label, value in {**before.labels, **given.labels}.items() if value}
            owner = before.owner if given.owner is None else given.owner or None
            kept = _Kept(key.created_at, owner, labels)
            return msgspec.json.encode(kept).decode() if owner or labels else ""

        change_field(self._engine.client, name, member, change)
        return msgspec.structs.replace(key, owner=kept.owner, labels=kept.labels)

    def add_to(self, org: str, found: Mapping[bytes, KeyInfo]) -> dict[bytes, KeyInfo]:
        """The keys, by their members, with their owners and labels."""
        client, name = self._engine.read_client, self._schema.key_labels(org_member(org))
        if not found:
            return {}
        try:
            # To ask for a thousand that are not there takes longer than to ask whether there are any.
            none = len(found) > _MANY and not client.hlen(name)
            replies = [None] * len(found) if none else client.hmget(name, list(found))
        except Exception as error:
            if not is_wrong_type(error) or not self._engine.damage.explains(error, name):
                raise
            return dict(found)
        pairs = zip(found.items(), replies, strict=True)
        return {member: key if raw is None else _labelled(key, raw) for (member, key), raw in pairs}

    def remove(self, org: str, key_ids: Collection[str]) -> None:
        """Forget what is kept of keys."""
        members = [key_member(key_id) for key_id in key_ids]
        if members:
            self._engine.client.hdel(self._schema.key_labels(org_member(org)), *members)


def _labelled(key: KeyInfo, raw: bytes | str) -> KeyInfo:
    kept = _decoded(raw, key)
    return msgspec.structs.replace(key, owner=kept.owner, labels=kept.labels) if kept.owner or kept.labels else key


def _decoded(raw: bytes | str, key: KeyInfo) -> _Kept:
    """What is kept of this very key; nothing where it is damaged, or was of an earlier key of the same id."""
    try:
        found = _decoder.decode(raw) if raw else _Kept()
    except msgspec.MsgspecError:
        return _Kept()
    return found if found.created_at == key.created_at else _Kept()
