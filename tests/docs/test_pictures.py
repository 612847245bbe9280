"""The pictures of the page show the page as it is."""

from __future__ import annotations

import pytest

from tests.pictures import IMAGES, PICTURES, mark_of, marked, page_as_it_is


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_of_this_page(name: str) -> None:
    found = mark_of((IMAGES / f"{name}.png").read_bytes())
    assert found == page_as_it_is(), "the page has changed: run python3 run test tests/web/page/test_pictures.py --pictures"


def test_a_mark_leaves_the_picture_as_it_was() -> None:
    png = (IMAGES / "dashboard.png").read_bytes()
    assert mark_of(marked(png, "abc 1")) == "abc 1"
    assert len(marked(png, "abc")) == len(png) + 12 + len("Comment") + 1 + 3
