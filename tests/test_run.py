"""`run` needs nothing but Python: it is what a fresh machine starts with."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[1] / "run"


def test_imports_the_standard_library_alone() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(RUN.read_text("utf-8")))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert imported <= sys.stdlib_module_names


def test_tells_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for command in ("demo", "test", "check", "docs", "soak", "bench"):
        assert f"python3 run {command}" in done.stderr
