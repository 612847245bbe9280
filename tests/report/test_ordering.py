"""Many names are sorted in small parts, into the same order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.report import ordering
from usage_middleware.report.ordering import by_number, in_order


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "PART", 4)
        patch.setattr(ordering, "_SAMPLES", 2)
        yield


@given(st.lists(st.integers(-5, 100)))
def test_numbers(items: list[int]) -> None:
    assert in_order(items) == sorted(items)


@given(st.lists(st.text(max_size=3)))
def test_names(items: list[str]) -> None:
    assert in_order(items) == sorted(items)


@given(st.lists(st.text(max_size=3), unique=True), st.booleans(), st.data())
def test_names_by_their_numbers(names: list[str], falling: bool, data: st.DataObject) -> None:
    numbers = {name: data.draw(st.integers(-3, 9)) for name in names}
    assert by_number(names, numbers.__getitem__, falling=falling) == sorted(names, key=numbers.__getitem__, reverse=falling)


def test_no_part_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(items: list[int]) -> list[int]:
        found = sorted(items)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(ordering, "PART", 100)
    monkeypatch.setattr(ordering, "_SAMPLES", 10)
    monkeypatch.setattr(ordering, "sorted", noted, raising=False)
    items = [number * 7_919 % 10_007 for number in range(10_000)]
    assert in_order(items) == sorted(items)
    assert max(sizes) <= 1_000
