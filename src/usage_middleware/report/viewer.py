"""Who looks, and which part of Redis they see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.options import DEFAULT_ORG, CounterKind
from usage_middleware.store.schema import OPERATOR, key_member, member_from_request, name_of, org_member, org_name_of


class Names(NamedTuple):
    """An organisation and a key as the application calls them; a member that was cut has lost its name."""

    org: str | None = None
    key: str | None = None


_NOT_GIVEN = Names()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. Made by `organization`, `key` or `operator`; a missing name raises, so that it never widens the view.

    Attributes:
        org: the organisation, as a member; None for an operator.
        key_id: the only key that is seen, as a member; None for all of the organisation's.
        names: what the key directory calls the organisation and the key.
    """

    org: str | None
    key_id: str | None
    names: Names = field(default=_NOT_GIVEN, compare=False)

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
        return cls(None, None, Names())

    def __post_init__(self) -> None:
        # `Viewer(user.org, None)` would be an operator where the user has no organisation, or one called `*`.
        if self.names is _NOT_GIVEN:
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
    """What is looked at: an organisation (`*`: all of them together), or one key of it; as members, and their names."""

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

    @property
    def series_kind(self) -> CounterKind:
        """The counters that hold how it went over time."""
        return "series" if self.key is None else "key"

    @property
    def board_kind(self) -> CounterKind:
        """The counters that hold its breakdowns."""
        return "board" if self.key is None else "key_board"


def report_scope(viewer: Viewer, org: str | None, key_id: str | None = None, *, together: bool = True) -> ReportScope:
    """What a viewer who asks for `org` and `key_id` looks at. `together`: whether all organisations are counted together.

    Raises:
        QueryError: `not_found` where the organisation is another's, whether it exists or not; `missing_org` where an
            operator asks for a key without saying whose, or for all organisations together where that is not counted.
    """
    if viewer.is_operator and org is None and not together:
        raise missing_org("All organisations together are not counted here (operator_tree is off): say which one with org=.")
    if viewer.org is None:
        return _operator_scope(org, key_id)
    if org is not None and viewer.org not in (member_from_request(org), org_member(org)):
        raise QueryError("not_found", "There is no such organisation.", "org")
    if viewer.key_id is None:
        return ReportScope(viewer.org, None if key_id is None else member_from_request(key_id), Names(viewer.names.org))
    is_own = key_id is None or viewer.key_id in (member_from_request(key_id), key_member(key_id))
    return ReportScope(viewer.org, viewer.key_id if is_own else NOBODY, viewer.names)


#: The key that a key viewer sees where it asks for another's: no call has it, since members are never empty.
NOBODY = ""


def _operator_scope(org: str | None, key_id: str | None) -> ReportScope:
    if org is None:
        if key_id is not None:
            raise missing_org()
        return ReportScope(OPERATOR)
    named = member_from_request(org) if org else DEFAULT_ORG
    return ReportScope(org_member(org) if named == OPERATOR else named, None if key_id is None else member_from_request(key_id))


def missing_org(why: str = "This view is about the keys of one organisation: say which with org=.") -> QueryError:
    """The error of an operator's question that only makes sense for one organisation."""
    return QueryError("missing_org", why, "org")
