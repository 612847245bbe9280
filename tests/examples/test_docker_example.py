"""The example with Docker: started where Docker is; else its files fit together, and its command runs as they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.calling import is_listening
from tests.serving import counted, request, serving
from tests.support import ServerProcess, eventually, free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "docker"
CALLS = 50

pytestmark = pytest.mark.slow


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def command() -> list[str]:
    """What the image starts."""
    (line,) = re.findall(r"^CMD (.+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    words: list[str] = json.loads(line)
    return words


def test_what_the_files_name_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"api", "valkey"}
    assert set(services["api"]["depends_on"]) <= set(services)
    mounted = {mount.split(":")[0] for service in services.values() for mount in service["volumes"]}
    assert mounted == set(compose["volumes"])
    context = FOLDER / services["api"]["build"]["context"]
    assert (context / services["api"]["build"]["dockerfile"]).samefile(FOLDER / "Dockerfile")
    for line in re.findall(r"^COPY (.+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE):
        *sources, _ = line.split()
        assert all((context / source).exists() for source in sources), line


def test_it_is_set_up_to_lose_nothing(compose: dict[str, Any]) -> None:
    api, valkey = compose["services"]["api"], compose["services"]["valkey"]
    assert int(api["stop_grace_period"].removesuffix("s")) >= 10
    assert api["environment"]["USAGE_REDIS_URL"] == "redis://valkey:6379/0"
    assert any(mount.endswith(f":{api['environment']['USAGE_SPOOL']}") for mount in api["volumes"])
    assert f"VOLUME {api['environment']['USAGE_SPOOL']}" in (FOLDER / "Dockerfile").read_text()
    assert " ".join(valkey["command"]).endswith("--maxmemory-policy noeviction")
    assert command()[-2:] == ["--workers", "2"]


def test_its_command_counts_and_stops_as_docker_stops_it(
    compose: dict[str, Any], server: ServerProcess, namespace: str, tmp_path: Path
) -> None:
    port = free_port()
    words = [{"0.0.0.0": "127.0.0.1", "8000": str(port)}.get(word, word) for word in command()]
    variables = {name: str(value) for name, value in compose["services"]["api"]["environment"].items()}
    variables |= {"USAGE_REDIS_URL": server.url, "USAGE_SPOOL": str(tmp_path), "USAGE_NAMESPACE": namespace}
    with serving([sys.executable, "-m", *words, "--app-dir", str(FOLDER)], port, **variables) as running:
        running.call_all([("GET", f"/items/{number}", {}) for number in range(CALLS)])
        assert set(running.statuses) == {200}
    with server.client() as client:
        assert counted(client, namespace, "default") == CALLS


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture
def started() -> Iterator[None]:
    try:
        if docker("info").returncode or docker("compose", "version").returncode:
            pytest.skip("Docker does not run here, or has no Compose")
    except OSError:
        pytest.skip("Docker is not installed")
    if docker("compose", "pull", "valkey").returncode:
        pytest.skip("Docker can't get images here")
    try:
        up = docker("compose", "up", "--build", "--detach")
        assert up.returncode == 0, up.stderr
        yield
    finally:
        docker("compose", "down", "--volumes")


def test_it_counts_in_containers(started: None) -> None:
    eventually(lambda: is_listening(8000), 60)
    for number in range(CALLS):
        assert request("GET", 8000, f"/items/{number}").status_code == 200
    assert docker("compose", "stop", "api").returncode == 0
    keys = docker("compose", "exec", "valkey", "valkey-cli", "--scan", "--pattern", "usage:{default}:series:1d:????-??")
    fields = docker("compose", "exec", "valkey", "valkey-cli", "HGETALL", keys.stdout.split()[0]).stdout.split("\n")
    calls = [int(number) for name, number in zip(fields[::2], fields[1::2], strict=False) if name.endswith(" calls")]
    assert sum(calls) == CALLS
