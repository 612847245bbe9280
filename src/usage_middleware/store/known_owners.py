"""Which keys and organisations the key directory knows, asked with the members that counters have."""

from __future__ import annotations

from collections.abc import Collection

from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.keys import Directory
from usage_middleware.store.members import key_member, name_of, org_name_of


class KnownOwners:
    """Asks the key directory. `own` is it as it was given, if it can list organisations by itself."""

    def __init__(self, directory: Directory, own: object) -> None:
        self._directory = directory
        self._own = own if isinstance(own, KeyDirectory) else None

    def keys(self, org: str, ids: Collection[str]) -> set[str]:
        """Which of these are keys of the organisation."""
        found = self._directory.get_many(org_name_of(org), [name_of(one) for one in ids])
        return {key_member(key_id) for key_id in found} & set(ids)

    def orgs(self, orgs: Collection[str]) -> set[str]:
        """Which of these organisations have keys."""
        names = {org_name_of(org): org for org in orgs}
        if self._own is not None:
            return {names[name] for name in self._own.known_orgs(names)}
        return {org for name, org in names.items() if self._directory.count(name)}
