"""The page of reliability names the tests that show what it says: they exist, and every fault of these tests is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "reliability.md").read_text("utf-8")
NAMED = set(re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", PAGE))
#: What tests the tests themselves.
NO_FAULTS = {"test_proxy.py", "test_ledger.py"}


def names_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse(path.read_text("utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    missing = {(file, name) for file, name in NAMED if name not in names_in(ROOT / file)}
    assert not missing


def claims() -> list[str]:
    """Every paragraph, item and row of the page that says something: no headings, code, or rows of what was measured."""
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        if block.startswith("|"):
            header, _, *rows = block.splitlines()
            found += rows if header.rstrip("| ").endswith("| test") else []
        elif not block.startswith("#"):
            found += re.split(r"\n(?=- )", block)
    return [claim for claim in found if claim.strip()]


def test_every_claim_names_a_test() -> None:
    named = re.compile(r"`tests/[a-z_/]+\.py::test_\w+`")
    assert len(claims()) > 80
    assert not [claim for claim in claims() if not named.search(claim)]


def test_every_fault_is_named() -> None:
    files = [path for path in sorted((ROOT / "tests" / "faults").glob("test_*.py")) if path.name not in NO_FAULTS]
    known = {(f"tests/faults/{path.name}", name) for path in files for name in names_in(path)}
    assert len(known) > 40
    assert known <= NAMED
