"""`run` needs nothing but Python: it is what a fresh machine starts with."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = ROOT / "run"


def test_imports_the_standard_library_alone() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(RUN.read_text("utf-8")))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.slow
def test_tells_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for command in ("demo", "test", "check", "lowest", "wheel", "guard", "docs", "soak", "bench"):
        assert f"python3 run {command}" in done.stderr


def test_lowest_tests_the_lower_bounds_of_pyproject() -> None:
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(.+)$", (ROOT / "tests" / "lowest.txt").read_text("utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    bounds = dict(
        re.findall(r"^([a-z0-9-]+)>=([0-9.]+)", "\n".join([*project["dependencies"], *extras["speed"], *extras["dev"]]), re.M)
    )
    required = {"msgspec", "redis", "starlette", "hiredis", "fastapi", "flask"}
    assert required <= pinned.keys() & bounds.keys()
    for name in pinned.keys() & bounds.keys():
        assert f"{pinned[name]}.".startswith(f"{bounds[name]}."), name
