"""Credentials that nobody knows: named where they opened something, anonymous where they did not."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import pytest

from tests.support import record_call, there
from usage_middleware import Usage


@pytest.mark.parametrize(
    ("endpoint", "status", "is_named"),
    [
        ("GET /v1/items", 200, True),
        ("GET /v1/items", 404, True),
        ("GET /v1/items", 401, False),
        ("GET /v1/items", 403, False),
        ("GET (unmatched)", 404, False),
    ],
)
def test_a_scanner_that_makes_up_credentials_leaves_one_row(
    make_usage: Callable[..., Usage], endpoint: str, status: int, is_named: bool
) -> None:
    usage = make_usage()
    for number in range(50):
        record_call(usage.recorder, blake2b(b"%d" % number, digest_size=32).digest(), endpoint, (), status, 1_000, 0, ())
    assert usage.flush()
    keys = there(usage.reader.by_key(org="default", period="24h").keys)
    assert sum(key.request_count for key in keys) == 50
    assert len(keys) == (50 if is_named else 1)
    assert all(key.key_id.startswith("key_") if is_named else key.key_id == "(anonymous)" for key in keys)
