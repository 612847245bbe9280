"""Call a real API, wait until its calls are counted, and print what one customer sees."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.text import Text

from examples.demo import history, redis_lines, tables, traffic
from examples.demo.server import Example, choose_port, folder, serving

CALLS = 300
TRAFFIC_SECONDS = 5.0
COUNTED_SECONDS = 10
#: The customer whose views are shown, its API key, and the id of that key.
ORG, KEY, KEY_ID = "acme", traffic.STOREFRONT, "key_storefront"
#: So much of its quota it has used when the demo's calls are counted: enough for an alert.
NEAR = 0.86
VIEWS = (
    ("/usage/summary", tables.summary),
    ("/usage/by-key?include_revoked=true", tables.by_key),
    ("/usage/by-group?group=project", tables.by_group),
    ("/usage/limits", tables.limits),
)
#: Where alerts stand.
DETAILS = "/usage/"
PAGE = "Open http://127.0.0.1:{port}/usage/dashboard and sign in with {key}"
INTRODUCTION = """\
A geocoding API with two customers, Acme and Globex, and an embedded Valkey.
The views below are what Acme's key gets: nothing of Globex is in them. Acme is near its quota, Globex is over.
"""
TRY = (
    ("a call of your own", KEY, "/v1/geocode?q=ams"),
    ("what Acme used, a second later", KEY, "/usage/summary?period=24h"),
    ("every key of Acme", KEY, "/usage/by-key"),
    ("its busiest endpoints", KEY, "/usage/by-group?group=endpoint"),
    ("the same for a spreadsheet", KEY, "/usage/by-key?format=csv"),
    ("what is left", KEY, "/usage/limits"),
    ("another customer sees its own", traffic.MAPS, "/usage/summary"),
    ("a revoked key sees nothing", traffic.OLD_APP, "/usage/summary"),
)


def run_demo(*, seconds: float | None, port: int | None, data_dir: Path | None) -> None:
    """Serve the example, call it, show its views; then go on serving until Ctrl-C, or for this many seconds."""
    console = Console(highlight=False)
    chosen = choose_port(port)
    try:
        with signals_as_ctrl_c(), folder(data_dir) as data, serving(chosen, data) as example:
            console.print(PAGE.format(port=chosen, key=KEY), style="bold")
            console.print(INTRODUCTION)
            fill_history(console, example)
            set_quota(example)
            send_traffic(console, example)
            show_views(console, example)
            show_alerts(console, example)
            show_redis(console, example)
            show_urls(console, example)
            keep_serving(console, example, seconds)
    except KeyboardInterrupt:
        console.print("\nStopped.")


def fill_history(console: Console, example: Example) -> None:
    """Backfill ninety days that are made up, so that the page has something to show."""
    with console.status("Backfilling ninety days that are made up ..."):
        done = example.usage.backfill(history.rows(redis_lines.now(example.usage)))
    console.print(f"The {history.DAYS} days before today are made up: {done.calls:,} calls, backfilled.")


def set_quota(example: Example) -> None:
    """Give the customer a quota that it will almost have used, on whichever day of the month the demo runs."""
    (quota,) = (row for row in example.usage.reader.limits(org=ORG).limits if row.unit == "calls" and row.kind == "quota")
    more = sum(call.key is not None and call.key.startswith(ORG) for call in traffic.calls(CALLS))
    example.usage.plans.assign(ORG, "pro", overrides={quota.name: round((quota.used + more) / NEAR)})


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C until the block ends."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def send_traffic(console: Console, example: Example) -> None:
    """Send the calls with a progress bar, and wait until Redis has them."""
    before = redis_lines.counted(example.usage)
    script = traffic.calls(CALLS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"Calling a geocoding API on port {example.port}", total=len(script))
        statuses = traffic.play(script, example.port, TRAFFIC_SECONDS, lambda: progress.advance(task))
    found = wait_until_counted(example, before, len(script))
    classes = ", ".join(f"{count} {name}" for name, count in sorted(Counter(f"{code // 100}xx" for code in statuses).items()))
    console.print(f"{len(script)} calls sent ({classes}), {found} counted.", style="bold")


def wait_until_counted(example: Example, before: int, sent: int) -> int:
    """The number of calls that Redis counted since `before`: as soon as it has all, at the latest after ten seconds."""
    deadline = time.monotonic() + COUNTED_SECONDS
    while (found := redis_lines.counted(example.usage) - before) < sent and time.monotonic() < deadline:
        example.check_alive()
        time.sleep(0.05)
    return found


def show_views(console: Console, example: Example) -> None:
    """Print the views, as this customer's key gets them."""
    for path, table in VIEWS:
        console.print()
        console.print(Rule(f"GET {path}", align="left"))
        console.print(table(get(example.port, path)))


def show_alerts(console: Console, example: Example) -> None:
    """Print the alerts of this customer, which is near its quota, and of the other one, which is over."""
    for name, key in (("Acme", KEY), ("Globex", traffic.MAPS)):
        console.print()
        console.print(Rule(f"What {name} was alerted of", align="left"))
        console.print(tables.alerts(wait_for_alerts(example, key)))


def wait_for_alerts(example: Example, key: str) -> tables.Report:
    """The details view once it has alerts, at the latest after ten seconds."""
    deadline = time.monotonic() + COUNTED_SECONDS
    while not (found := get(example.port, DETAILS, key))["alerts"] and time.monotonic() < deadline:
        example.check_alive()
        time.sleep(0.2)
    return found


def get(port: int, path: str, key: str = KEY) -> tables.Report:
    """The JSON answer of one view."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=traffic.TIMEOUT)
    try:
        connection.request("GET", path, headers={"X-API-Key": key})
        response = connection.getresponse()
        report: tables.Report = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise click.ClickException(f"GET {path} answered {response.status}: {report}")
    return report


def show_redis(console: Console, example: Example) -> None:
    """Print redis-cli commands and their answers."""
    console.print()
    console.print(Rule("The same numbers in Redis", align="left"))
    console.print(Text(f"redis-cli -s {redis_lines.socket_path(example.usage)}"), soft_wrap=True)
    for command, answer in redis_lines.top_keys(example.usage, ORG, KEY_ID):
        console.print(Text(command, style="bold"), soft_wrap=True)
        for line in answer:
            console.print(Text(f"    {line}"), soft_wrap=True)


def show_urls(console: Console, example: Example) -> None:
    """Print commands to copy and paste."""
    console.print()
    console.print(Rule("Try it", align="left"))
    for what, key, path in TRY:
        console.print(Text(f"# {what}", style="dim"))
        console.print(Text(f"curl -H 'X-API-Key: {key}' 'http://127.0.0.1:{example.port}{path}'"), soft_wrap=True)


def keep_serving(console: Console, example: Example, seconds: float | None) -> None:
    """Wait until Ctrl-C, or for this many seconds."""
    console.print()
    console.print("Serving until Ctrl-C." if seconds is None else f"Serving for {seconds:g} s.", style="bold")
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        example.check_alive()
        time.sleep(0.1)
