"""`python -m benchmarks [--quick] [--only overhead,flush]`: measure, and write the page of performance."""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path

from benchmarks import machine, tables

PARTS = ("overhead", "servers", "flush", "views", "plans", "memory", "history", "scale", "page", "heavy")
#: What takes an hour or more, and is measured only if it is named.
LONG = ("cold_year", "dense_year")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "performance.md"


def main() -> None:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(prog="python3 run bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rounds of everything; prints the tables, writes nothing")
    parser.add_argument(
        "--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}; or of {', '.join(LONG)}: an hour each"
    )
    parser.add_argument("--size", type=int, help="a year of so many organisations (2,000), or of so many calls a day (100,000)")
    asked = parser.parse_args()
    for part in asked.only.split(","):
        if part not in PARTS + LONG:
            parser.error(f"there is no part {part!r}; there are {', '.join(PARTS + LONG)}")
    if not asked.quick:
        tables.put(PAGE, "machine", machine.description())
    for part in asked.only.split(","):
        _measure(part, asked.quick, asked.size)


def _measure(part: str, quick: bool, size: int | None) -> None:
    begun = time.monotonic()
    print(f"## {part} ...", flush=True)
    run = import_module(f"benchmarks.{part}").run
    text = run(quick, size) if part in LONG else run(quick)
    print(f"{text}\n\n({part}: {time.monotonic() - begun:.0f} s)\n", flush=True)
    if not quick:
        tables.put(PAGE, part, text)


if __name__ == "__main__":
    main()
