"""Tokens for the page inside of another site's page: what the host gives to a customer that is signed in there."""

from __future__ import annotations

import re

from usage_middleware.errors import ConfigurationError
from usage_middleware.report.context import ReportSource
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.driver_errors import guard
from usage_middleware.store.tickets import Ticket, Tickets

#: What every token begins with.
PREFIX = "uet_"
#: How long a token may be good for, seconds.
MOST_SECONDS = 3600
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def is_origin(origin: object) -> bool:
    """Whether it is an exact origin as browsers send it.

    >>> is_origin("https://portal.example.com"), is_origin("https://portal.example.com/"), is_origin("*")
    (True, False, False)
    """
    return isinstance(origin, str) and _ORIGIN.fullmatch(origin) is not None


def embed_token(source: ReportSource, viewer: Viewer, seconds: int, audience: str, origin: str) -> str:
    """As `Reports.embed_token`."""
    if not isinstance(viewer, Viewer) or viewer.is_operator or viewer.names.org is None:
        raise ConfigurationError("an embed token is for Viewer.organization(...) or Viewer.key(...), never for operators")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= MOST_SECONDS:
        raise ConfigurationError(f"seconds must be a whole number from 1 to {MOST_SECONDS}, not {seconds!r}")
    if not isinstance(audience, str) or not audience:
        raise ConfigurationError(f"audience must be the name of the usage app, not {audience!r}")
    if not is_origin(origin):
        raise ConfigurationError(
            f'origin must be that of the page around it, such as "https://portal.example.com", not {origin!r}'
        )
    ticket = Ticket(viewer.names.org, viewer.names.key, audience, origin)
    with guard():
        return PREFIX + tickets_of(source).issue("embed", ticket, seconds)


def embedded_viewer(source: ReportSource, token: str, audience: str) -> tuple[Viewer, str] | None:
    """Whom a token stands for in the usage app of this name, and the page around it; None: nobody, or a revoked key."""
    ticket = tickets_of(source).find("embed", token.removeprefix(PREFIX), audience) if token.startswith(PREFIX) else None
    if ticket is None or ticket.origin is None:
        return None
    if ticket.key is None:
        return Viewer.organization(ticket.org), ticket.origin
    info = source.directory.get(ticket.org, ticket.key)
    is_active = info is not None and info.revoked_at is None
    return (Viewer.key(ticket.org, ticket.key), ticket.origin) if is_active else None


def tickets_of(source: ReportSource) -> Tickets:
    """The tickets that are kept beside the counters."""
    return Tickets(lambda: source.engine.read_client, source.schema)
