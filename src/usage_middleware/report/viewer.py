"""`Viewer`: who asks, and so what may be shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.members import key_member, org_member


class Names(NamedTuple):
    """An organisation and a key as the application calls them; a member that was cut has lost its name."""

    org: str | None = None
    key: str | None = None


_NOT_GIVEN = Names()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. Made by `organization`, `key` or `operator`; a missing name raises, so that it never widens the view.

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
