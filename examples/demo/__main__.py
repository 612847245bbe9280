"""`python -m examples.demo`, from the root of the checkout."""

from __future__ import annotations

from pathlib import Path

import click

from examples.demo.demo import run_demo

DATA_DIR = "Keep the counters in this folder.  [default: a temporary folder]"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", type=click.FloatRange(min=0), help="Serve for this many seconds.  [default: until Ctrl-C]")
@click.option("--port", type=click.IntRange(1, 65535), help="Serve on this port.  [default: 8000, or the next free one]")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help=DATA_DIR)
def demo(seconds: float | None, port: int | None, data_dir: Path | None) -> None:
    """Start an example API with the embedded server, call it for a few seconds, show what was counted."""
    run_demo(seconds=seconds, port=port, data_dir=data_dir)


if __name__ == "__main__":
    demo(prog_name="python3 run demo")
