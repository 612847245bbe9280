"""What endpoints are called in answers: the user's own labels, under which several endpoints may come together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from usage_middleware.options import Settings
from usage_middleware.store.schema import CALLS, is_reserved

log = logging.getLogger("usage_middleware")


def label_of(endpoint: str, settings: Settings) -> str:
    """The label of `METHOD /template`; reserved endpoints such as `GET (unmatched)` keep theirs, and what gets none."""
    if settings.endpoint_label is None or is_reserved("endpoint", endpoint):
        return endpoint
    method, _, template = endpoint.partition(" ")
    try:
        return str(settings.endpoint_label(method, template) or endpoint)
    except Exception:
        log.exception("endpoint_label failed for %r; the endpoint keeps its own name", endpoint)
        return endpoint


def by_label(members: Mapping[str, Mapping[str, int]], settings: Settings) -> dict[str, dict[str, int]]:
    """Members of the dimension `endpoint`, added up under their labels."""
    found: dict[str, dict[str, int]] = {}
    for endpoint, measures in members.items():
        total = found.setdefault(label_of(endpoint, settings), {})
        for measure, number in measures.items():
            total[measure] = total.get(measure, 0) + number
    return found


def under_label(endpoints: Iterable[str], settings: Settings) -> dict[str, list[str]]:
    """Which endpoints stand under each label."""
    found: dict[str, list[str]] = {}
    for endpoint in endpoints:
        found.setdefault(label_of(endpoint, settings), []).append(endpoint)
    return found


def distribution(members: Mapping[str, Mapping[str, int]], settings: Settings) -> dict[str, int]:
    """Label -> calls, the busiest first."""
    calls = ((label, measures.get(CALLS, 0)) for label, measures in by_label(members, settings).items())
    return dict(sorted(calls, key=lambda row: (-row[1], row[0])))
