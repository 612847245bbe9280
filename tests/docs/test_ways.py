"""The ways of a request and of a view are those of the architecture page.

A file that calls another file of the package is a step. The rest only answers: it calls nothing.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

import usage_middleware
from tests.docs.pages import DOCS, section
from tests.support import eventually
from usage_middleware import KeyInfo, Usage, UsageMiddleware, track
from usage_middleware.web import KeyAuth, usage_app

PACKAGE = Path(usage_middleware.__file__).parent
PAGE = DOCS / "architecture.md"
SECRET = {"X-API-Key": "sk_acme"}
#: Other shells and adapters, and what is no Python.
NOT_HERE = {"capture/wsgi.py", "web/wsgi.py", "web/flask.py", "report/csv.py", "store/apply_batch.lua"}
#: `usage.py` connects the rooms, `options.py` names resolutions, one adapter may ask the other, and what a window's edges are,
#: or what is kept, only asks the calendar. They count as answering.
ANSWERING = {"usage.py", "options.py", "store/deadline.py", "capture/frameworks/starlette.py", "capture/frameworks/fastapi.py"}
ANSWERING |= {"report/kept.py", "report/named_periods.py", "store/retention.py"}
#: What asks Redis one thing for a view, or looks at one header.
ANSWERING |= {"store/admission.py", "store/answer_cache.py", "store/script.py", "web/cors.py", "web/budget.py", "web/turns.py"}
#: The hands of the key directory and of a batch of reads: they send what those ask for.
ANSWERING |= {"store/key_records.py", "store/key_labels.py", "store/reads.py", "store/deferred.py", "store/history/fetching.py"}
ANSWERING |= {"store/block_reads.py"}
#: What a batch of reads knows of packed time.
ANSWERING |= {"store/history/packed_reads.py", "store/history/month.py", "store/history/names.py"}
#: The hands of the writer, and what says how long something is kept.
ANSWERING |= {"store/meta.py", "store/retention.py"}
#: These only let a thread rest, tell the interpreter how often, and remember what a property was. To call them is no step, and
#: what they call is not either.
BETWEEN = {None, "gil.py", "interpreter.py", "lazily.py"}


def way(heading: str) -> set[str]:
    """The files that the page names as steps."""
    rows = [line for line in section(PAGE, heading).splitlines() if re.match(r"\| \d", line)]
    return {name for row in rows for name in _files(row.split("|")[2])} - NOT_HERE


def answering(heading: str) -> set[str]:
    """The files that the page names beside the steps."""
    rows = [line for line in section(PAGE, heading).splitlines() if not line.startswith("|")]
    return _files("\n".join(rows))


def _files(text: str) -> set[str]:
    return set(re.findall(r"`((?:\w+/)*\w+\.\w+)`", text))


class Trace:
    """Which files of the package run, and which of them call another one. It records what runs inside `recording`.

    Attributes:
        files: those whose functions ran.
        steps: those that called a function of another file.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.steps: set[str] = set()
        self._is_on = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record this thread, and the threads that began inside `watching`."""
        self._is_on = True
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the threads that begin meanwhile."""
        threading.setprofile(self._profile)
        try:
            yield
        finally:
            threading.setprofile(None)
            self._is_on = False

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if not self._is_on or event != "call" or frame.f_code.co_name == "<module>":
            return
        name, caller = _name(frame), _caller(frame)
        if name is not None:
            self.files.add(name)
            if caller != name and caller not in BETWEEN and name not in BETWEEN:
                self.steps.add(str(caller))


def _name(frame: FrameType) -> str | None:
    return _file(frame.f_code.co_filename)


@cache
def _file(name: str) -> str | None:
    """A file of the package, in it. Remembered: a view has a time limit, and each of its calls comes here."""
    path = Path(name)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def _caller(frame: FrameType) -> str | None:
    """The file of the package that is nearest among the callers."""
    back = frame.f_back
    while back is not None and _name(back) is None:
        back = back.f_back
    return None if back is None else _name(back)


@pytest.fixture
def trace() -> Iterator[Trace]:
    found = Trace()
    with found.watching():
        yield found


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    return make_usage(dimensions=("project",), counters=("records",), flush_interval=3600)


@pytest.fixture
def client(usage: Usage) -> TestClient:
    """An application whose customer has an API key."""
    usage.keys.put("acme", KeyInfo("key_7", "Search backend"), secret="sk_acme")
    app = FastAPI()
    app.add_api_route("/v1/items/{item}", count_records)
    app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))
    app.add_middleware(UsageMiddleware, usage=usage)
    return TestClient(app)


def count_records(request: Request, item: int) -> int:
    track(request).tag(project="search").count(records=1)
    return item


def hold(trace: Trace, heading: str) -> None:
    """The page names the steps, and no others; and each file that ran."""
    steps = trace.steps - ANSWERING
    assert way(heading) == steps
    assert len(steps) <= 15
    assert trace.files - steps <= answering(heading)


def test_the_way_of_a_request(trace: Trace, client: TestClient, usage: Usage) -> None:
    assert client.get("/v1/items/1", headers=SECRET).status_code == 200
    assert usage.flush()
    with trace.recording():
        assert client.get("/v1/items/1", headers=SECRET).status_code == 200
    thread = usage.recorder._thread
    assert thread is not None
    thread.hurry()
    eventually(lambda: usage.reader.summary(org="acme").total_calls == 2)
    hold(trace, "The way of a request")


def test_the_way_of_a_view(trace: Trace, client: TestClient) -> None:
    assert client.get("/usage/by-group", headers=SECRET).status_code == 200
    with trace.recording():
        assert client.get("/usage/summary", headers=SECRET).status_code == 200
    hold(trace, "The way of a view")
