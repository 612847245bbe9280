"""The site can be built, with no dead link and no page outside the menu. The architecture page names files that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import usage_middleware
from tests.docs.pages import DOCS, ROOT, section

PACKAGE = Path(usage_middleware.__file__).parent
ARCHITECTURE = DOCS / "architecture.md"
MOST_FILES = 15


@pytest.mark.slow
def test_the_site_has_no_dead_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [page.read_text("utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert len(pages) >= len(list(DOCS.rglob("*.md")))
    loaded = [tag for page in pages for tag in re.findall(r"<(?:script|link|img)\b[^>]*", page)]
    assert not [tag for tag in loaded if re.search(r'="(?:https?:)?//', tag)]


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    picture = (DOCS / "images" / "demo.svg").read_text("utf-8")
    assert "/v1/geocode" in picture
    assert "url(http" not in picture
    assert "@font-face" not in picture


def test_files_that_the_architecture_names_exist() -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|lua))`", ARCHITECTURE.read_text("utf-8")))
    assert len(named) > 30
    assert not sorted(name for name in named if not any((folder / name).exists() for folder in (PACKAGE, ROOT)))


@pytest.mark.parametrize("heading", ["The way of a request", "The way of a view"])
def test_the_ways_are_short(heading: str) -> None:
    steps = re.findall(r"^\| (\d+) \|", section(ARCHITECTURE, heading), re.MULTILINE)
    assert [int(number) for number in steps] == list(range(1, len(steps) + 1))
    assert len(steps) <= MOST_FILES
