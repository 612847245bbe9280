"""The ways of a request and of a view are those of the architecture page: each file that it names there is passed through."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

import usage_middleware
from tests.docs.pages import DOCS, section
from usage_middleware import KeyInfo, Usage, UsageMiddleware, track
from usage_middleware.web import KeyAuth, usage_app

PACKAGE = Path(usage_middleware.__file__).parent
SECRET = {"X-API-Key": "sk_acme"}
#: Other shells and adapters, and what is no Python.
NOT_HERE = {"capture/wsgi.py", "web/wsgi.py", "web/flask.py", "report/csv.py", "store/apply_batch.lua"}


def way(heading: str) -> set[str]:
    """The files that the page names as steps."""
    rows = [line for line in section(DOCS / "architecture.md", heading).splitlines() if re.match(r"\| \d", line)]
    return {name for row in rows for name in re.findall(r"`((?:\w+/)+\w+\.\w+)`", row.split("|")[2])} - NOT_HERE


@contextmanager
def traced() -> Iterator[set[str]]:
    """The files of the package whose functions run meanwhile, in this thread and in those that begin."""
    seen: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and path.is_relative_to(PACKAGE):
            seen.add(path.relative_to(PACKAGE).as_posix())

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture
def client(make_usage: Callable[..., Usage]) -> TestClient:
    """An application whose customer has an API key; `flush` sends what was counted."""
    usage = make_usage(dimensions=("project",), counters=("records",))
    usage.keys.put("acme", KeyInfo("key_7", "Search backend"), secret="sk_acme")
    app = FastAPI()
    app.add_api_route("/v1/items/{item}", count_records)
    app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))
    app.add_middleware(UsageMiddleware, usage=usage)
    app.state.usage = usage
    return TestClient(app)


def count_records(request: Request, item: int) -> int:
    track(request).tag(project="search").count(records=1)
    return item


def test_the_way_of_a_request(client: TestClient) -> None:
    with traced() as seen:
        assert client.get("/v1/items/1", headers=SECRET).status_code == 200
        assert client.app.state.usage.flush()  # type: ignore[attr-defined]
    assert not way("The way of a request") - seen


def test_the_way_of_a_view(client: TestClient) -> None:
    with traced() as seen:
        assert client.get("/usage/summary", headers=SECRET).status_code == 200
    assert not way("The way of a view") - seen
