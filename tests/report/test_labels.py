"""What endpoints are called: by the user's own function where it says something, else as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from usage_middleware.options import Settings
from usage_middleware.report.metrics import by_label, label_of

ITEMS = "GET /v1/items"


def fails(method: str, template: str) -> str:
    raise LookupError(template)


def told(label: Callable[[str, str], Any]) -> Settings:
    return Settings(endpoint_label=label)


def test_a_label_of_ones_own() -> None:
    assert label_of(ITEMS, told(lambda method, template: f"{template.strip('/')} by {method}")) == "v1/items by GET"


@pytest.mark.parametrize("label", [lambda method, template: None, lambda method, template: "", fails])
def test_what_gets_no_label_keeps_its_name_and_stays_apart(label: Callable[[str, str], Any]) -> None:
    members = {ITEMS: {"calls": 1}, "GET /v1/other": {"calls": 2}}
    assert by_label(members, told(label)) == members


def test_reserved_endpoints_keep_theirs() -> None:
    assert label_of("GET (unmatched)", told(lambda method, template: "x")) == "GET (unmatched)"
