"""Draws docs/images/demo.svg: what the demo prints, in colour. Run it from the development environment.

.venv/bin/python tools/demo_picture.py
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
WIDTH = 88
#: The part that is shown: from the number of calls up to what the views' numbers are in Redis.
FIRST, BEHIND = "calls sent", "The same numbers in Redis"
#: rich writes colours though nobody watches, and draws no progress bar.
COLOURED = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}


def main() -> None:
    """Run the demo and draw what it prints."""
    done = subprocess.run(
        [sys.executable, ROOT / "run", "demo", "--seconds", "0"],
        env={**os.environ, **COLOURED},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    PICTURE.write_text(drawn(done.stdout), "utf-8")
    print(PICTURE.relative_to(ROOT))


def drawn(printed: str) -> str:
    """The shown part of what was printed, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for line in shown(Text.from_ansi(printed)):
        line.rstrip()
        console.print(line, soft_wrap=True)
    # Without a fixed id, rich would give the styles new names in every drawing.
    svg = console.export_svg(title="python3 run demo", unique_id="demo")
    # The browser's own monospaced font: a page should not load one from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines() if line.strip())


def shown(printed: Text) -> list[Text]:
    """The lines from `FIRST` up to `BEHIND`."""
    lines = list(printed.split("\n"))
    first = next(number for number, line in enumerate(lines) if FIRST in line.plain)
    behind = next(number for number, line in enumerate(lines) if BEHIND in line.plain)
    return lines[first : behind - 1]


if __name__ == "__main__":
    main()
