"""The guide lists every server of these tests, and what each may lose."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, section
from tests.servers.kinds import GRACEFUL_UWSGI, KINDS

GUIDE = DOCS / "guides" / "several-workers.md"


def test_the_table_is_that_of_the_tests() -> None:
    rows = [line for line in section(GUIDE, "Servers").splitlines() if line.startswith("| `")]
    told = {cells[0]: tuple(cells[1:]) for row in rows if (cells := [cell.strip() for cell in row.strip("|").split("|")])}
    names = {name.strip() for cell in told for name in re.sub(r"[`]", "", cell).split(";")}
    assert names == set(KINDS)
    for cell, (sigterm, ctrl_c) in told.items():
        for name in re.sub(r"[`]", "", cell).split(";"):
            kind = KINDS[name.strip()]
            assert (sigterm, ctrl_c) == (kind.lost_at_sigterm or "nothing", kind.lost_at_ctrl_c or "nothing"), name


def test_the_hook_for_uwsgi_is_that_of_the_tests() -> None:
    assert f"hook-master-start = {GRACEFUL_UWSGI[1]}" in GUIDE.read_text()
