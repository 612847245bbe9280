"""What a series question is about: which calls, by which group, and which measures are kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from usage_middleware.errors import QueryError
from usage_middleware.options import Settings
from usage_middleware.report.cells import Endpoints, MembersOfKey, OneKey, Organization, Subject
from usage_middleware.report.context import ReportContext, ReportScope, missing_org
from usage_middleware.report.measure import COUNTED, Measure, measure, measure_names, unsupported_measure
from usage_middleware.report.metrics import label_of
from usage_middleware.report.rows import Alone, ByDimension, ByKey, ByStatus, Group, by_label, by_method
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.members import OPERATOR, member_from_request
from usage_middleware.store.schema import CALLS

TOGETHER, ENDPOINT, KEY, STATUS, METHOD, ORG = "none", "endpoint", "key", "status", "method", "org"
_BUILT_IN = (TOGETHER, ENDPOINT, KEY, STATUS, METHOD)


class Breakdown(NamedTuple):
    """Some calls, and how they are told apart.

    Attributes:
        endpoints: only these; None: all.
    """

    scope: ReportScope
    group: str
    endpoints: tuple[str, ...] | None
    settings: Settings

    @property
    def subject(self) -> Subject:
        """All of the calls."""
        key = self.scope.key
        if key is not None:
            return OneKey(key) if self.endpoints is None else MembersOfKey(key, ENDPOINT, self.endpoints)
        return Organization() if self.endpoints is None else Endpoints(self.endpoints)

    @property
    def is_everything(self) -> bool:
        """True of all calls of an organisation."""
        return isinstance(self.subject, Organization)

    @property
    def parts(self) -> Group | None:
        """Their parts; None where they are not told apart."""
        group, key, subject, endpoints = self.group, self.scope.key, self.subject, self.endpoints
        if group == TOGETHER:
            return None
        if group in self.settings.dimensions:
            return ByDimension(group, subject, is_declared=True)
        if group == STATUS:
            return ByStatus(subject)
        if group == ENDPOINT:
            return by_label(self.settings, endpoints, key)
        if group == METHOD:
            return by_method(endpoints, key)
        if group == KEY:
            return ByKey(endpoints) if key is None else Alone(key, subject)
        org = self.scope.org
        return ByDimension(ORG, subject, is_declared=False) if org == OPERATOR else Alone(org, subject)

    def measure(self, name: str) -> Measure:
        """The measure of this name.

        Raises:
            QueryError: `unsupported_measure`: there is none, or it is not kept of the group; the message says what works.
        """
        found, possible = measure(name, self.settings), self._possible()
        if name not in possible:
            raise unsupported_measure(self._why_not(name, possible))
        # Which status codes there are is not known before.
        return found._replace(fields=None) if self.group == STATUS else found

    def _possible(self) -> tuple[str, ...]:
        of_key, of_endpoint = self.scope.key is not None, self.endpoints is not None
        if self.group == STATUS:
            return () if of_key and of_endpoint else (CALLS,)
        if isinstance(self.parts, ByDimension):
            return () if of_endpoint else COUNTED
        is_endpoint_of_key = (of_key or self.group == KEY) and (of_endpoint or self.group in (ENDPOINT, METHOD))
        return COUNTED if is_endpoint_of_key or self.group == ORG else measure_names(self.settings)

    def _why_not(self, name: str, possible: Sequence[str]) -> str:
        what = f"group={self.group}"
        what += " of one endpoint" if self.endpoints is not None else ""
        what += " of one key" if self.scope.key is not None else ""
        works = f"what works is {', '.join(possible)}" if possible else "no measure is, so ask for another group"
        return f"measure={name} is not kept for {what}; {works}"


def allowed_groups(settings: Settings, viewer: Viewer) -> tuple[str, ...]:
    """What `group` may be: those every application has, the declared dimensions, and `org` for operators."""
    names = [*_BUILT_IN, *(name for name in settings.dimensions if name not in _BUILT_IN)]
    return (*names, ORG) if viewer.is_operator else tuple(names)


def breakdown(context: ReportContext, scope: ReportScope, group: str, endpoint: str | None) -> Breakdown:
    """What is asked for, in the names that are stored.

    Raises:
        QueryError: `invalid_group`; `missing_org` where an operator asks for the keys of all organisations.
    """
    allowed = allowed_groups(context.settings, context.viewer)
    if group not in allowed:
        raise QueryError("invalid_group", f"group must be one of {', '.join(allowed)}", "group")
    if group == KEY and scope.org == OPERATOR:
        raise missing_org()
    endpoints = None if endpoint is None else _endpoints(context, scope, endpoint)
    return Breakdown(scope, group, endpoints, context.settings)


def _endpoints(context: ReportContext, scope: ReportScope, name: str) -> tuple[str, ...]:
    """The endpoints that answers call so; one without calls if there are none."""
    itself = member_from_request(name)
    if context.settings.endpoint_label is None:
        return (itself,)
    batch = context.batch(scope.org)
    seen = batch.seen(ENDPOINT)
    batch.read()
    return tuple(one for one in seen.value if name in (one, label_of(one, context.settings))) or (itself,)
