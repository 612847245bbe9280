"""The project of the guide for Django runs: in a process of its own, since Django has one configuration for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, URL, blocks
from tests.support import ServerProcess

pytest.importorskip("django")

SCRIPT = """
import django
django.setup()
from django.core.management import call_command
call_command("check", fail_level="WARNING")
import add_key
from django.test import Client
key = {"HTTP_X_API_KEY": "sk_acme"}
client = Client()
answer = client.post("/v1/match/7/", ["ann", "bob"], "application/json", headers={"X-Project": "search"}, **key)
assert answer.json() == ["ann"], answer
from usage_middleware.integrations.django import get_usage
assert get_usage().flush()
found = client.get("/usage/summary", **key).json()
assert (found["total_calls"], found["by_project"]) == (1, [{"project_name": "search", "calls": 1}]), found
assert list(found["by_endpoint"]) == ["POST /v1/match/{list_id}/"] or "/v1/match/{list_id}/" in str(found["by_endpoint"])
assert client.get("/usage/summary").status_code == 401
get_usage().close()
"""


@pytest.mark.slow
def test_the_project(own_server: ServerProcess, tmp_path: Path) -> None:
    found = {block.file: block.text.replace(URL, own_server.url) for block in blocks(DOCS / "guides" / "django.md", "python")}
    assert set(found) == {"settings.py", "urls.py", "views.py", "add_key.py"}
    for name, text in found.items():
        (tmp_path / str(name)).write_text(text, "utf-8")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
