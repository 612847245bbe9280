"""The `usage-middleware` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; without the extra `cli`, say how to get it."""
    try:
        from usage_middleware.cli.command import usage_middleware
    except ModuleNotFoundError as error:
        sys.exit(f"The command needs {error.name}: pip install 'usage-middleware[cli]'")
    usage_middleware()
