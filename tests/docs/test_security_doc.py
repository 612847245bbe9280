"""`docs/security.md` names tests that exist, and every test of `tests/safety` stands behind a threat or a promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


def rows() -> list[list[str]]:
    """The rows of the table of threats."""
    table = PAGE.split("| threat |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_is_named_exists(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)


def test_every_threat_names_a_test() -> None:
    assert len(rows()) > 10
    assert not [row for row in rows() if len(row) != 4 or "::test_" not in row[3]]


def test_every_file_of_tests_about_safety_holds_a_threat() -> None:
    files = {f"tests/safety/{path.name}" for path in (ROOT / "tests" / "safety").glob("test_*.py")}
    assert files <= {file for file, _ in NAMED}
