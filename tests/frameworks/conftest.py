"""The applications are loaded by the table, which knows what to do where a framework is not installed."""

from __future__ import annotations

collect_ignore_glob = ["apps/*"]
