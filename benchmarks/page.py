"""What the page costs: files, questions, time until the first chart, memory of the browser, in the Chromium of the system."""

from __future__ import annotations

import shutil
import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from benchmarks import apps
from benchmarks.asking import LIMIT, ORG
from benchmarks.seeding import seed
from benchmarks.tables import table
from benchmarks.views import NOW, SIZES
from tests.support import Clock, ServerProcess
from usage_middleware import Viewer
from usage_middleware.web import usage_wsgi_app
from usage_middleware.web.page.files import LATER, PAGE, STYLE, static_files

SIZE = SIZES[1]
READY = "main[data-state=ready]:not([aria-busy])"
REFRESHES = 50
#: Notes by the browser's own clock, which began when it was sent to the page, when something was painted for the first time.
WATCH = """
const seen = window.seen = {};
const painted = (name) => requestAnimationFrame(() => setTimeout(() => { seen[name] ??= performance.now(); }));
new MutationObserver((_, watch) => {
  if (document.querySelector("#calls svg")) painted("chart");
  if (!document.querySelector("%s")) return;
  painted("ready");
  watch.disconnect();
}).observe(document, { childList: true, subtree: true, attributes: true });
"""
SEEN = "new Promise((done) => { const look = () => (seen.ready ? done(seen) : setTimeout(look, 10)); look(); })"


class Seen(NamedTuple):
    """One view of the page: milliseconds until its first chart and until all of it, questions, their bytes of JSON."""

    chart: float
    ready: float
    asked: int
    json: int


def run(quick: bool) -> str:
    """The table of this part."""
    found = shutil.which("chromium")
    if found is None:
        return "There was no Chromium."
    from playwright.sync_api import sync_playwright

    with _served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        context = browser.new_context(timezone_id="UTC", viewport={"width": 1280, "height": 900})
        context.add_init_script(WATCH % READY)
        first, *again = [_look(context, url) for _ in range(3 if quick else 9)]
        before, after = _heap(context, url, 5 if quick else REFRESHES)
        browser.close()
    rows = [
        ["files, gzip", f"{_files(plans=False):.1f} kB in 2"],
        ["files where there are plans, gzip", f"{_files(plans=True):.1f} kB in 2"],
        [
            "the same with what only some load: one key, one endpoint, operators, signing in",
            f"{_files(LATER, plans=True):.1f} kB",
        ],
        ["questions of a view, and their JSON", f"{first.asked}, {first.json / 1000:.0f} kB"],
        ["first chart, nothing kept by the browser", f"{first.chart:.0f} ms"],
        ["first chart, files kept", f"{statistics.median(one.chart for one in again):.0f} ms"],
        ["all panels, files kept", f"{statistics.median(one.ready for one in again):.0f} ms"],
        ["memory of its scripts", f"{before / 1e6:.1f} MB"],
        [f"the same after {5 if quick else REFRESHES} refreshes", f"{after / 1e6:.1f} MB"],
    ]
    return f"A customer's page of 30 days, {SIZE.name}, no answer cached:\n\n{table(['the page', ''], rows)}"


def _files(more: Sequence[str] = (), *, plans: bool) -> float:
    """Of what a page loads in kB, compressed."""
    packed = {file.name: len(file.packed) for file in static_files(plans=plans).files}
    return sum(packed[name] for name in (PAGE, STYLE, *more)) / 1000


@contextmanager
def _served() -> Iterator[str]:
    """The usage API of a seeded organisation, on a port of this machine."""
    with ServerProcess() as server:
        options = {"namespace": "views", **SIZE.options}
        with apps.new_usage(server.url, clock=Clock(), **options) as usage:
            seed(usage, server.url, options, ORG, SIZE.past, NOW)
            app = usage_wsgi_app(usage, auth=lambda _: Viewer.organization(ORG), cache_seconds=0, limit=LIMIT)
            with make_server("127.0.0.1", 0, app, _Threaded, _Silent) as listening:
                threading.Thread(target=listening.serve_forever, daemon=True).start()
                yield f"http://127.0.0.1:{listening.server_port}/dashboard"
                listening.shutdown()


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def _look(context: Any, url: str) -> Seen:
    page = context.new_page()
    sizes: list[int] = []
    page.on("response", lambda reply: sizes.extend(_length(reply)))
    page.goto(url)
    page.wait_for_selector(READY)
    seen = page.evaluate(SEEN)
    page.close()
    return Seen(seen["chart"], seen["ready"], len(sizes), sum(sizes))


def _length(reply: Any) -> list[int]:
    """How long an answer is, if it is one to a question."""
    return [int(reply.headers["content-length"])] if "json" in reply.headers.get("content-type", "") else []


def _heap(context: Any, url: str, refreshes: int) -> tuple[float, float]:
    """Bytes that scripts hold, after the first view and after some refreshes."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(READY)
    tools = context.new_cdp_session(page)
    before = _held(tools)
    for number in range(refreshes):
        page.select_option("#compare", "none" if number % 2 == 0 else "")
        page.wait_for_selector("main[aria-busy]", state="detached")
    return before, _held(tools)


def _held(tools: Any) -> float:
    tools.send("HeapProfiler.collectGarbage")
    return float(tools.send("Runtime.getHeapUsage")["usedSize"])
