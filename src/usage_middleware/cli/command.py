"""The command line, as click parses it."""

from __future__ import annotations

from pathlib import Path

import click

from usage_middleware.cli.demo import run_demo

DATA_DIR = "Keep the counters in this folder.  [default: one that is removed at the end]"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="usage-middleware")
def usage_middleware() -> None:
    """Count every request to your HTTP API in Redis, and show each customer its own usage."""


@usage_middleware.command()
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop serving so long after the tables.  [default: at Ctrl-C]")
@click.option("--port", type=click.IntRange(1, 65535), help="Serve on this port.  [default: 8000, or the next free one]")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help=DATA_DIR)
def demo(seconds: float | None, port: int | None, data_dir: Path | None) -> None:
    """Start an example API with the embedded server, call it for a few seconds, show what was counted."""
    run_demo(seconds=seconds, port=port, data_dir=data_dir)
