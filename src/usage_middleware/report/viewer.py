"""Who looks, and what of Redis that lets them see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store.schema import OPERATOR, key_member, listed, name_of, org_member, org_name_of


class Names(NamedTuple):
    """An organisation and a key as the application calls them. A member that was cut no longer tells."""

    org: str | None = None
    key: str | None = None


_NOBODY_IN_PARTICULAR = Names()
_EVERYBODY = Names()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. Made by `organization`, `key` or `operator` alone; a missing name raises, so that it never widens the view.

    Attributes:
        org: the organisation, as a member; None for an operator.
        key_id: the only key that is seen, as a member; None for all of the organisation's.
        names: what the key directory calls the organisation and the key.
    """

    org: str | None
    key_id: str | None
    names: Names = field(default=_NOBODY_IN_PARTICULAR, compare=False)

    @classmethod
    def organization(cls, org: str) -> Self:
        """Sees everything of one organisation."""
        return cls(org_member(_named("organisation", org)), None, Names(org))

    @classmethod
    def key(cls, org: str, key_id: str) -> Self:
        """Sees one key of one organisation."""
        return cls(org_member(_named("organisation", org)), key_member(_named("key", key_id)), Names(org, key_id))

    @classmethod
    def operator(cls) -> Self:
        """Sees every organisation: for the people who run the API."""
        return cls(None, None, _EVERYBODY)

    def __post_init__(self) -> None:
        # `Viewer(user.org, None)` with a user of no organisation would be an operator, and with one called `*` too.
        if self.names is _NOBODY_IN_PARTICULAR:
            raise ConfigurationError("make a viewer with Viewer.organization(), Viewer.key() or Viewer.operator()")

    @property
    def is_operator(self) -> bool:
        """True for the people who run the API."""
        return self.org is None


def _named(what: str, name: str) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a viewer needs the name of its {what}, not {name!r}")
    return name


class ReportScope(NamedTuple):
    """What is looked at: an organisation's tree (`*`: all of them together), or one key in it; and their names."""

    org: str
    key: str | None = None
    names: Names = Names()

    @property
    def shown_org(self) -> str | None:
        """The organisation as an answer names it: None where all are seen together."""
        return None if self.org == OPERATOR else self.org

    @property
    def org_name(self) -> str:
        """The organisation as the key directory calls it."""
        return org_name_of(self.org) if self.names.org is None else self.names.org

    @property
    def key_name(self) -> str:
        """The key as the key directory calls it; empty where all keys are looked at."""
        return name_of(self.key or "") if self.names.key is None else self.names.key


def report_scope(viewer: Viewer, org: str | None, key_id: str | None = None, *, together: bool = True) -> ReportScope:
    """What a viewer looks at who asks for `org` and `key_id`; `together` says whether all organisations are counted as one.

    Raises:
        QueryError: `not_found` where the organisation is another's, whether it exists or not; `missing_org` where an
            operator asks for a key without saying whose, or for all organisations together where that is not kept.
    """
    if viewer.is_operator and org is None and not together:
        raise missing_org("All organisations together are not counted here (operator_tree is off): say which one with org=.")
    if viewer.org is None:
        return _operator_scope(org, key_id)
    if org is not None and viewer.org not in (listed(org), org_member(org)):
        raise QueryError("not_found", "There is no such organisation.", "org")
    if viewer.key_id is None:
        return ReportScope(viewer.org, None if key_id is None else listed(key_id), Names(viewer.names.org))
    is_own = key_id is None or viewer.key_id in (listed(key_id), key_member(key_id))
    return ReportScope(viewer.org, viewer.key_id if is_own else NOBODY, viewer.names)


#: A key that no call can have: what a key viewer sees of another's key. Members are never empty.
NOBODY = ""


def _operator_scope(org: str | None, key_id: str | None) -> ReportScope:
    if org is None:
        if key_id is not None:
            raise missing_org()
        return ReportScope(OPERATOR)
    named = listed(org) if org else DEFAULT_ORG
    return ReportScope(org_member(org) if named == OPERATOR else named, None if key_id is None else listed(key_id))


def missing_org(why: str = "This view is about the keys of one organisation: say which with org=.") -> QueryError:
    """What an operator is told who asks for keys of everybody, or for what is kept of each organisation alone."""
    return QueryError("missing_org", why, "org")
