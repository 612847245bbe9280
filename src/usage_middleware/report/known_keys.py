"""What the key directory knows of an organisation's keys. There may be 100,000: of each its id and its name stay in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple, Protocol

from usage_middleware.gil import LIGHT, yielding
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.keys import KeyInfo
from usage_middleware.store.members import key_member

#: All that the directory knows of so many keys is kept while an answer is made.
FEW = 10_000


class Wanted(Protocol):
    """Which keys are listed."""

    @property
    def environment(self) -> str | None:
        """Only those of this environment."""

    @property
    def include_revoked(self) -> bool:
        """Revoked ones, too."""


class KnownKeys(NamedTuple):
    """The keys of the directory.

    Attributes:
        names: of those that may be listed: id -> name, by name, then id.
        others: the ids of those that may not: revoked ones, those of another environment.
        active: how many are active.
        infos: what the directory knows of those that may be listed; None where that is too much to keep.
    """

    names: Mapping[str, str]
    others: Collection[str]
    active: int
    infos: Mapping[str, KeyInfo] | None

    def __contains__(self, key: object) -> bool:
        """Whether the directory knows a key."""
        return key in self.names or key in self.others

    def infos_of(self, context: ReportContext, scope: ReportScope, keys: Collection[str]) -> Mapping[str, KeyInfo]:
        """What the directory knows of some keys. One that was removed meanwhile, or is damaged, is absent."""
        if self.infos is not None:
            return self.infos
        assert isinstance(context.directory, KeyDirectory)
        return context.directory.of_members(scope.org_name, [key for key in keys if key in self])


def known_keys(context: ReportContext, scope: ReportScope, wanted: Wanted, count: int) -> KnownKeys:
    """The keys that the directory knows, or the one of a key viewer; `count` of them are active."""
    directory = context.directory
    if scope.key is not None:
        info = directory.get(scope.org_name, scope.key_name)
        return _from_infos([info] if info is not None and key_member(info.id) == scope.key else [], wanted)
    if not isinstance(directory, KeyDirectory) or count <= FEW:
        return _from_infos(directory.list(scope.org_name, include_revoked=True), wanted)
    if wanted.environment is not None:
        return _from_infos(directory.each(scope.org_name, include_revoked=True), wanted, keep=False)
    return _from_names(directory, scope.org_name, wanted)


def _from_infos(infos: Iterable[KeyInfo], wanted: Wanted, *, keep: bool = True) -> KnownKeys:
    names: dict[str, str] = {}
    others: set[str] = set()
    kept: dict[str, KeyInfo] = {}
    active = 0
    for info in yielding(infos, LIGHT):
        key = key_member(info.id)
        active += info.revoked_at is None
        if not _may_be_listed(info, wanted):
            others.add(key)
            continue
        names[key] = info.name
        if keep:
            kept[key] = info
    return KnownKeys(_by_name(names), others - names.keys(), active, kept if keep else None)


def _may_be_listed(info: KeyInfo, wanted: Wanted) -> bool:
    if info.revoked_at is not None and not wanted.include_revoked:
        return False
    return wanted.environment in (None, info.environment)


def _by_name(names: dict[str, str]) -> dict[str, str]:
    """By name, then id. The directory in Redis has them so; an application's own may have an order of its own."""
    if all((one[1], one[0]) < (other[1], other[0]) for one, other in yielding(pairwise(names.items()), LIGHT)):
        return names
    return dict(sorted(names.items(), key=lambda pair: (pair[1], pair[0])))


def _from_names(directory: KeyDirectory, org: str, wanted: Wanted) -> KnownKeys:
    """Without reading a record of any of them."""
    names = dict(yielding(directory.names(org, revoked=wanted.include_revoked), LIGHT))
    revoked = {key for key, _ in yielding(directory.names(org, active=False, revoked=True), LIGHT)}
    listed = sum(key in names for key in revoked) if wanted.include_revoked else 0
    return KnownKeys(names, revoked - names.keys(), len(names) - listed, None)
