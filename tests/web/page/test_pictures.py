"""The page of the demo, as README and docs show it. With `--pictures` these take their pictures again, of what is tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pictures import IMAGES, PICTURES, marked, page_as_it_is
from tests.support import eventually, free_port
from tests.web.page.conftest import OpenLook, number

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
#: As `python -m examples.demo`, with the calls sent at once.
SCRIPT = "from examples.demo import __main__, demo; demo.TRAFFIC_SECONDS = 0.5; __main__.demo()"


@pytest.fixture(scope="module")
def demo(browser: object) -> Iterator[str]:
    """The mount of the demo, with its ninety days."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="usage-pictures-") as folder, (Path(folder) / "output").open("w") as output:
        environment = {**os.environ, "TMPDIR": folder}
        command = [sys.executable, "-c", SCRIPT, "--port", str(port)]
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            said = Path(output.name)
            eventually(lambda: "Serving until" in said.read_text() or running.poll() is not None, 60)
            assert running.poll() is None, said.read_text()
            yield f"http://127.0.0.1:{port}/usage"
        finally:
            running.terminate()
            running.wait(30)


@pytest.mark.parametrize("name", PICTURES)
def test_the_page_of_the_demo(look: OpenLook, demo: str, name: str, request: pytest.FixtureRequest) -> None:
    options, query = PICTURES[name]
    seen = look(None, base=demo, **options)
    page = seen.open(query, state="signed-out")
    page.fill("#key", "acme-live-storefront")
    page.keyboard.press("Enter")
    seen.wait()
    rows = seen.rows("keys")
    assert number(rows["Total"][0]) == seen.total > 10_000
    assert page.locator("#headline meter, #limits meter").count() > 1
    assert page.locator("#calls .previous").count() == 1
    assert re.search(r"Storefront", " ".join(rows))
    seen.said.clear()
    if request.config.getoption("--pictures"):
        (IMAGES / f"{name}.png").write_bytes(marked(page.screenshot(), page_as_it_is()))
