"""Which API keys and organisations are known: to a key directory, or by a plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.keys import Directory
from usage_middleware.store.members import key_member, name_of, org_name_of


class KnownOwners:
    """Asks a key directory by members. `own` is the same one, if it is ours: it answers for many organisations at once.

    `with_plan` says which of some organisations were given a plan.
    """

    def __init__(self, directory: Directory, own: KeyDirectory | None, with_plan: Callable[[Sequence[str]], set[str]]) -> None:
        self._directory = directory
        self._own = own
        self._with_plan = with_plan

    def keys(self, org: str, ids: Collection[str]) -> set[str]:
        """Those of the keys that are an organisation's."""
        found = self._directory.get_many(org_name_of(org), [name_of(one) for one in ids])
        return {key_member(key_id) for key_id in found} & set(ids)

    def orgs(self, orgs: Collection[str]) -> set[str]:
        """Those of the organisations that have a key, or were given a plan."""
        found = self._with_a_key(orgs)
        others = [org for org in orgs if org not in found]
        return found | self._with_plan(others) if others else found

    def _with_a_key(self, orgs: Collection[str]) -> set[str]:
        names = {org_name_of(org): org for org in orgs}
        if self._own is not None:
            return {names[name] for name in self._own.known_orgs(names)}
        return {org for name, org in names.items() if self._directory.count(name)}
