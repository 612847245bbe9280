"""Warnings about what lies in Redis and on disk: what is damaged there, the pepper, how many organisations there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec

from usage_middleware.errors import UsageUnavailable
from usage_middleware.report.context import ReportSource
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.org_registry import admitted
from usage_middleware.store.pepper import PepperStatus
from usage_middleware.store.worker_status import SeenStatus

#: From this share of the most organisations on, operators are told.
MANY_ORGS = 0.8


class Warned(msgspec.Struct, frozen=True):
    """A warning: a stable word for programs, and a sentence for a person. At `failing`, somebody has to act."""

    code: str
    message: str
    level: Literal["warning", "failing"] = "warning"


class AtRest(NamedTuple):
    """What Redis says; None where it does not.

    Attributes:
        pepper: where the pepper is; None also where the application has a key store of its own.
        orgs: how many organisations that nobody knows have counters of their own.
    """

    pepper: PepperStatus | None = None
    orgs: int | None = None


def at_rest_of(source: ReportSource) -> AtRest:
    """Ask Redis."""
    ask = getattr(source.directory, "pepper_status", None)
    with suppress(UsageUnavailable, *redis_errors()):
        pepper = None if ask is None else ask()
        return AtRest(pepper, admitted(source.engine.read_client, source.schema))
    return AtRest()


def of_rest(source: ReportSource, found: AtRest) -> Iterator[Warned]:
    """Warnings of what Redis says."""
    if found.pepper is not None:
        yield from _of_pepper(found.pepper, source.schema.pepper, is_embedded=source.engine.kind == "embedded")
    most = source.schema.settings.max_unknown_orgs
    if (found.orgs or 0) >= MANY_ORGS * most:
        sentence = (
            f"{found.orgs} of {most} organisations that the key directory does not know have counters of their own. Beyond "
            "that they count as (other). Raise max_unknown_orgs, or check who chooses the organisation."
        )
        yield Warned("organizations", sentence)


def _of_pepper(pepper: PepperStatus, key: str, *, is_embedded: bool) -> Iterator[Warned]:
    if pepper.left:
        sentence = f"{pepper.left} secrets of API keys are not known to be under the newest pepper yet: they go over when they "
        yield Warned("pepper_rotation", sentence + "are seen. Keep the older pepper until then.")
    elif pepper.left == 0:
        yield Warned("pepper_rotation", "Every secret is under the newest pepper: take the others out of Usage(pepper=...).")
    elif pepper.is_in_redis and not is_embedded:
        where = "The pepper is in Redis: whoever can read Redis can test guesses of API keys. Set USAGE_PEPPER"
        if not pepper.is_used_from_redis:
            where = "An old pepper is still in Redis, beside the one that is given"
        yield Warned("pepper_in_redis", f"{where}: pepper=(new, None) goes over from it; then delete {key}.")


def of_damage(workers: list[SeenStatus], found_here: str) -> Iterator[Warned]:
    """Warnings of what is damaged, in Redis and on disk, and left out."""
    found = {one.damaged: f"{one.host}:{one.pid}" for one in workers}
    for what, name in {found_here: "This process", **found}.items():
        if what:
            yield Warned("damaged", f"{name} found damaged, and leaves out: {what}. Delete it, or write it anew.")
    for one in workers:
        if one.spool_damaged:
            sentence = f"On {one.host}, {one.spool_damaged} files in the spool are damaged, or belong to somebody else. What "
            sentence += "could be read is sent, and damaged ones are kept as *.damaged: look at them, and delete them."
            yield Warned("spool_damaged", sentence)
