"""Takes docs/images/dashboard*.png: the page of the demo, in the Chromium of the system.

Each picture says in itself of which page it is; a test compares that with the page as it is now.
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from examples.demo import history, traffic
from examples.demo.demo import wait_until_counted
from examples.demo.redis_lines import counted
from examples.demo.server import Example, choose_port, serving
from usage_middleware.web.page.files import static_files
from usage_middleware.web.page.words import words

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
#: Name -> what the browser is like, and the address of the page.
PICTURES: dict[str, tuple[dict[str, Any], str]] = {
    "dashboard": ({"viewport": {"width": 1180, "height": 975}, "color_scheme": "light"}, "?timezone=UTC"),
    "dashboard-phone": ({"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}, "?timezone=UTC&period=7d"),
}
CALLS, SECONDS = 200, 2.0
#: How long the beginning of every PNG is, its first chunk included; and under which name our text stands behind it.
_HEADER, _KEYWORD = 8 + 25, b"Comment\0"


def main() -> None:
    """Run the demo's example with its past, sign in, and take the pictures."""
    found = shutil.which("chromium") or sys.exit("Chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="usage-demo-") as folder, serving(choose_port(None), Path(folder)) as example:
        fill(example)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            for name in PICTURES:
                take(browser, name, example.port)
            browser.close()


def fill(example: Example) -> None:
    """Ninety days that are made up, and some calls of now."""
    example.usage.backfill(history.rows(datetime.now(UTC)))
    before, script = counted(example.usage), traffic.calls(CALLS)
    traffic.play(script, example.port, SECONDS, lambda: None)
    wait_until_counted(example, before, len(script))


def take(browser: Browser, name: str, port: int) -> None:
    """Sign in as the demo's customer, and take one picture."""
    options, query = PICTURES[name]
    page = browser.new_context(**options, locale="en-GB", timezone_id="UTC").new_page()
    page.goto(f"http://127.0.0.1:{port}/usage/dashboard{query}")
    sign_in(page)
    (IMAGES / f"{name}.png").write_bytes(marked(page.screenshot(), page_as_it_is()))
    print(f"docs/images/{name}.png")


def page_as_it_is() -> str:
    """What changes with the page: its modules, styles and words."""
    return f"{static_files().folder} {zlib.crc32(repr(sorted(words('en').items())).encode()):08x}"


def marked(png: bytes, text: str) -> bytes:
    """A picture with a line of text in it, which nobody sees."""
    content = b"tEXt" + _KEYWORD + text.encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_HEADER] + chunk + png[_HEADER:]


def mark_of(png: bytes) -> str:
    """The text in a picture; empty if there is none."""
    (length,) = struct.unpack(">I", png[_HEADER : _HEADER + 4])
    content = png[_HEADER + 4 : _HEADER + 8 + length]
    return content.removeprefix(b"tEXt" + _KEYWORD).decode("ascii") if content.startswith(b"tEXt" + _KEYWORD) else ""


def sign_in(page: Page) -> None:
    """Show an API key, and wait for the charts."""
    page.fill("#key", traffic.STOREFRONT)
    page.keyboard.press("Enter")
    page.wait_for_selector("main[data-state=ready]:not([aria-busy])")


if __name__ == "__main__":
    main()
