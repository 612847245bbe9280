"""A browser that looks at a real server, and calls whose numbers are known. Without Chromium these tests are skipped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving import Serving, serving
from tests.support import ServerProcess, free_port
from tests.web.page import paid
from usage_middleware import KeyInfo, Usage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

#: The application is for a server of its own.
collect_ignore = ["served.py"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = "no Chromium: the page is NOT tested. Install it (apt-get install chromium), or run these tests where it is"
READY = "main[data-state=ready]"
#: When the calls of the past finished: noon of so many days ago, so that the days are the same in every zone of the tests.
DAYS_AGO = (1, 2, 3, 10, 40)


def number(text: str) -> int:
    """A number as the page writes it."""
    return int(text.replace(",", ""))


def noon(days_ago: int) -> datetime:
    """Noon of a day before today, UTC."""
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


class Counted:
    """Calls that a test has counted itself. Each is (days ago, organisation, key, endpoint, status, calls)."""

    rows = tuple(
        (days, org, key, f"GET /v1/{name}", status, calls * days)
        for days in DAYS_AGO
        for org, key, name, status, calls in (
            ("acme", "key_1", "items", 200, 40),
            ("acme", "key_1", "items", 404, 3),
            ("acme", "key_1", "places", 200, 20),
            ("acme", "key_2", "items", 200, 7),
            ("acme", "key_2", "places", 503, 2),
            ("globex", "key_9", "items", 200, 11),
        )
    )

    def calls(self, *, within: int = 30, **wanted: Any) -> int:
        """How many calls there were within so many days; `wanted`: org, key, endpoint, status."""
        names = ("org", "key", "endpoint", "status")
        return sum(
            calls
            for days, *what, calls in self.rows
            if days <= within and all(what[names.index(name)] == value for name, value in wanted.items())
        )

    def fill(self, usage: Usage) -> None:
        """Count them."""
        for number in (1, 2):
            usage.keys.put("acme", KeyInfo(id=f"key_{number}", name=f"Acme {number}"), secret=f"sk_acme_{number}")
        usage.keys.put("acme", KeyInfo(id="key_3", name="Never used"))
        usage.keys.put("globex", KeyInfo(id="key_9", name="Globex"), secret="sk_globex")
        usage.backfill(
            {"org": org, "id": f"{days} {number}", "at": noon(days), "key": key, "endpoint": endpoint, "status": status,
             "calls": calls, "latency_ms": 10 * calls, "tags": {"project": "p1"}}
            for number, (days, org, key, endpoint, status, calls) in enumerate(self.rows)
        )  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of this folder. While it is open an event loop runs, in which others can't run theirs."""
    if CHROMIUM is None:
        pytest.skip(NEEDED)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="package")
def page_server() -> Iterator[ServerProcess]:
    """A Valkey of the page's tests alone: one of them pauses it."""
    with ServerProcess() as running:
        yield running


@pytest.fixture(scope="package")
def site_usage(page_server: ServerProcess) -> Iterator[Usage]:
    """The counters behind the site; what is put here is seen there."""
    usage = Usage(page_server.url, namespace="page", credentials=("x-api-key",), dimensions=("project",))
    Counted().fill(usage)
    yield usage
    usage.close()


@pytest.fixture(scope="package")
def paid_usage(page_server: ServerProcess) -> Iterator[Usage]:
    """The counters of customers with plans."""
    usage = Usage(page_server.url, **paid.OPTIONS)
    paid.fill(usage)
    yield usage
    usage.close()


@pytest.fixture(scope="package")
def apart_usage(page_server: ServerProcess) -> Iterator[Usage]:
    """Counters of organisations that are not counted together."""
    usage = Usage(page_server.url, namespace="apart", operator_tree=False, dimensions=("project",))
    row = {"id": "1", "at": noon(1), "key": "key_1", "endpoint": "GET /", "status": 200, "calls": 3}
    usage.backfill([{"org": "acme", **row}])
    yield usage
    usage.close()


@contextmanager
def site_of(command: Callable[[int], list[str]], redis_url: str, **variables: str) -> Iterator[Serving]:
    """The application on a server."""
    port = free_port()
    known = {"USAGE_REDIS_URL": redis_url, "USAGE_NAMESPACE": "page", "PORTAL": f"http://localhost:{port}"}
    with serving(command(port), port, **known, **variables) as running:
        yield running


def uvicorn(port: int) -> list[str]:
    """The command that serves it over ASGI."""
    return [sys.executable, "-m", "uvicorn", "tests.web.page.served:site", "--port", str(port)]


def gunicorn(port: int) -> list[str]:
    """The command that serves it over WSGI, below another path."""
    command = [sys.executable, "-m", "gunicorn", "tests.web.page.served:wsgi", "--bind", f"127.0.0.1:{port}"]
    return [*command, "--no-control-socket", "--threads", "8"]


@pytest.fixture(scope="package")
def site(browser: Browser, site_usage: Usage, page_server: ServerProcess) -> Iterator[Serving]:
    """The application under uvicorn; only started where there is a browser."""
    with site_of(uvicorn, page_server.url) as running:
        yield running


@pytest.fixture(scope="package")
def apart(site: Serving, apart_usage: Usage) -> str:
    """The usage API of organisations that are not counted together: what one test adds, no other sees."""
    return f"http://127.0.0.1:{site.port}/apart/usage"


class Look:
    """A browser window on the page of a site. Whatever the console says fails the test, unless it is `expected`."""

    def __init__(self, context: BrowserContext, base: str, page: Page | None = None) -> None:
        self.context = context
        self.base = base
        self.page: Page = page or context.new_page()
        self.page.set_default_timeout(15_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self._hears: dict[Any, Callable[[Any], None]] = {
            "console": lambda message: self.said.append(message.text),
            "pageerror": lambda error: self.said.append(str(error)),
            "request": lambda request: self.asked.append(request.url),
        }
        for event, hear in self._hears.items():
            self.page.on(event, hear)

    def open(self, query: str = "", state: str = "ready") -> Page:
        """Go to the page, and wait until it is in a state."""
        self.page.goto(f"{self.base}/dashboard{query}")
        return self.wait(state)

    def wait(self, state: str = "ready") -> Page:
        """Wait until nothing is being asked any more, and the page is in a state."""
        self.page.wait_for_selector(f"main[data-state={state}]:not([aria-busy])", timeout=15_000)
        return self.page

    def text(self, selector: str) -> str:
        """The text of an element as it is seen."""
        return self.page.locator(selector).inner_text()

    def leave(self) -> None:
        """Make the window as good as new: no page, no cookie, nothing that a test has put between it and the server."""
        for event, hear in self._hears.items():
            self.page.remove_listener(event, hear)
        for other in self.context.pages:
            if other is not self.page:
                other.close()
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.goto("about:blank")
        self.context.clear_cookies()
        self.page.set_viewport_size({"width": 1280, "height": 900})

    @property
    def total(self) -> int:
        """The number of the headline."""
        return int(self.page.locator("#total").get_attribute("data-value") or "-1")

    def rows(self, panel: str) -> dict[str, list[str]]:
        """The rows of a table: name -> cells."""
        found = self.page.locator(f"#{panel} tbody tr, #{panel} tfoot tr")
        cells = found.evaluate_all("rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))")
        return {name: texts for name, *texts in cells}


OpenLook = Callable[..., Look]
Call = Callable[..., Any]
CALL = "async ([file, name, given]) => (await import(file))[name](...given)"


@pytest.fixture(scope="package")
def call(browser: Browser, site: Serving) -> Iterator[Call]:
    """`call(function, *arguments)`: what a function of the page's modules returns."""
    context = browser.new_context(locale="en-GB", timezone_id="UTC")
    # Where there are plans, the page's one file has everything.
    seen = Look(context, f"http://127.0.0.1:{site.port}/paid/usage")
    page = seen.open(state="signed-out")
    script = f"{seen.base}/{page.locator('script[type=module]').get_attribute('src')}"
    yield lambda name, *given: page.evaluate(CALL, [script, name, list(given)])
    context.close()


@pytest.fixture(scope="package")
def free_windows() -> dict[str, list[BrowserContext]]:
    """Windows that tests have left, by their options: to open one takes longer than what most tests do in it."""
    return {}


@pytest.fixture
def look(browser: Browser, site: Serving, free_windows: dict[str, list[BrowserContext]]) -> Iterator[OpenLook]:
    """`look(who, ...)`: a window of somebody; options are those of a browser context.

    It is as good as new, but may have been another test's. `own`: it was not, and no other gets it. Those ask for that which
    set its clock or its media, or close it.
    """
    made: list[tuple[Look, list[BrowserContext] | None]] = []

    def make(who: str | None = "acme", base: str | None = None, *, own: bool = False, **options: Any) -> Look:
        usual = {"locale": "en-GB", "timezone_id": "UTC", "viewport": {"width": 1280, "height": 900}}
        wanted = {**usual, **options}
        free = None if own or "viewport" in options else free_windows.setdefault(repr(sorted(wanted.items())), [])
        context = free.pop() if free else browser.new_context(**wanted)
        at = base or f"http://127.0.0.1:{site.port}/usage"
        if who is not None:
            context.add_cookies([{"name": "who", "value": who, "url": at}])
        seen = Look(context, at, context.pages[0] if context.pages else None)
        made.append((seen, free))
        return seen

    yield make
    said = [message for seen, _ in made for message in seen.said]
    for seen, free in made:
        if free is None:
            seen.context.close()
        else:
            seen.leave()
            free.append(seen.context)
    assert not said
