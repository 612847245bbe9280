"""What several tests of the store begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from usage_middleware.store.engine import Engine


@pytest.fixture
def engine(redis_url: str) -> Iterator[Engine]:
    made = Engine(redis_url)
    yield made
    made.close()
