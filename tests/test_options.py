"""Options are checked when a `Usage` is made, and the message names the option."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from usage_middleware import Usage
from usage_middleware.errors import ConfigurationError

COUNTED: dict[str, Any] = {"dimensions": ("project",), "counters": ("records", "matches")}


async def waits(*told: object) -> bool:
    return True


class Waits:
    async def __call__(self, *told: object) -> bool:
        return True


def name_of(options: object) -> str:
    """The same in every process: addresses are left out."""
    return re.sub(" at 0x[0-9a-f]+", "", str(options))


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": "a b"},
        {"namespace": "x" * 65},
        {"dimensions": "project"},
        {"dimensions": ("Project",)},
        {"dimensions": ("endpoint",)},
        {"dimensions": ("project", "project")},
        {"counters": ("2nd",)},
        {"counters": ("records", "records")},
        {"rates": {"match_rate": ("matches", "nothing")}},
        {"rates": {"match_rate": ("matches",)}},
        {"rates": {"endpoint": ("matches", "records")}},
        {"rates": {"buckets": ("matches", "records")}},
        {"rates": {"total_requests": ("matches", "records")}},
        {"rates": {"num_records": ("matches", "records")}},
        {"rates": {"Match Rate": ("matches", "records")}},
        {"rank_by": "nothing"},
        {"untagged": {"colour": "red"}},
        {"untagged": {"project": ""}},
        {"untagged": {"project": None}},
        {"untagged": {"project": "(other)"}},
        {"untagged": {"project": "x" * 129}},
        {"endpoint_label": "label"},
        {"endpoint_label": waits},
        {"visible_endpoints": "label"},
        {"visible_endpoints": Waits()},
        {"exclude": waits},
        {"exclude": Waits()},
        {"exclude": partial(waits, 1)},
        {"identify": "key"},
        {"slot_minutes": 20},
        {"retention": {"boards": {"day": 1}}},
        {"retention": {"board": {"hour": 1}}},
        {"retention": {"board": {"minute": timedelta(minutes=5)}}},
        {"retention": {"board": {"day": timedelta(days=1)}}},
        {"max_members": {"key": 0}},
        {"max_members": {"colour": 5}},
        {"shards": {"key": True}},
        {"flush_interval": 0},
        {"backlog_bytes": -1},
        {"shutdown_timeout": "5"},
    ],
    ids=name_of,
)
def test_what_an_option_can_not_be(wrong: dict[str, Any]) -> None:
    (option,) = wrong
    with pytest.raises(ConfigurationError, match=option):
        Usage("redis://localhost", **{**COUNTED, **wrong})


@pytest.mark.parametrize(
    "right",
    [
        {"untagged": "(none)"},
        {"untagged": {"project": "default"}},
        {"rates": {"match_rate": ("matches", "records")}},
        {"retention": {"board": {"day": timedelta(days=800)}}},
        {"endpoint_label": "{} {}".format},
        {"exclude": ("/health", "/internal/*")},
        {"exclude": lambda request: True},
        {"slot_minutes": 15, "max_members": 5, "shards": {"key": 16}, "operator_tree": False},
    ],
    ids=name_of,
)
def test_what_it_can_be(right: dict[str, Any]) -> None:
    Usage("redis://localhost", **{**COUNTED, **right})
