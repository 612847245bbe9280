"""The pages of the documentation, their blocks of code, and a way to run them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from usage_middleware import Usage

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: What stands in a page where the reader's own Redis is meant.
URL = "redis://localhost:6379/0"

_FENCE = re.compile(
    r"(?:`(?P<file>\w+\.py)`:\n\n)?^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """A block of code: where it is, what it is written in, and the file it is to be saved as, if the page says so."""

    page: Path
    line: int
    language: str
    text: str
    file: str | None

    @property
    def place(self) -> str:
        """The page and the line of the block, as an editor shows them."""
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """A page's path below the project's folder."""
    return page.relative_to(ROOT).as_posix()


def pages() -> list[Path]:
    """Every page that a reader meets."""
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The blocks of a page, of one language or of all."""
    text = page.read_text("utf-8")
    found = [
        Block(page, text.count("\n", 0, match.start("text")), match["language"], match["text"], match["file"])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def section(page: Path, heading: str) -> str:
    """What stands under a heading of the second level."""
    return page.read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


class Run:
    """Runs the Python of pages in the current folder, on a Redis of the test's own."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._usages: list[Usage] = []
        self._modules: list[str] = []

    def page(self, page: Path) -> dict[str, Any]:
        """All blocks of a page, one after another, as in a notebook; the names they leave."""
        names = self._module("docs_page").__dict__
        for block in blocks(page, "python"):
            self._run(block, names)
        return names

    def block(self, block: Block) -> dict[str, Any]:
        """One block, with nothing before it; the names it leaves."""
        names = self._module("docs_block").__dict__
        self._run(block, names)
        return names

    def _run(self, block: Block, names: dict[str, Any]) -> None:
        text = block.text.replace(URL, self._url)
        if block.file:
            Path(block.file).write_text(text, "utf-8")
            self._modules.append(block.file.removesuffix(".py"))
        try:
            # As many lines as are before it in the page, so that an error names the right one.
            exec(compile("\n" * block.line + text, str(block.page), "exec", dont_inherit=True), names)
        finally:
            self._usages += [found for found in names.values() if isinstance(found, Usage)]

    def _module(self, name: str) -> ModuleType:
        """A module to run in; SQLAlchemy looks names up in `sys.modules`."""
        self._modules.append(name)
        sys.modules[name] = ModuleType(name)
        return sys.modules[name]

    def made_usage(self) -> Usage:
        """One more `Usage`, without options."""
        self._usages.append(Usage(self._url))
        return self._usages[-1]

    def close(self) -> None:
        """Close every `Usage` that a block has made, and forget the modules."""
        for usage in self._usages:
            usage.close()
        for name in self._modules:
            sys.modules.pop(name, None)


@contextmanager
def running(redis_url: str) -> Iterator[Run]:
    """A `Run` that is closed at the end."""
    run = Run(redis_url)
    try:
        yield run
    finally:
        run.close()
