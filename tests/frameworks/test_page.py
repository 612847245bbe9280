"""The page of frameworks says of each what the table of applications says."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS
from tests.frameworks.table import APPLICATIONS, Application

ROWS = dict(re.findall(r"^\| ([A-Z][^|]*?) \| (.*) \|$", (DOCS / "frameworks.md").read_text("utf-8"), re.MULTILINE))


def test_every_application_is_there() -> None:
    assert list(ROWS) == [application.name for application in APPLICATIONS]


@pytest.mark.parametrize("application", APPLICATIONS, ids=str)
def test_what_a_refused_method_counts_as(application: Application) -> None:
    _, unmatched, refused = ROWS[application.name].split(" | ")
    status, template = application.refused
    assert unmatched == "`GET (unmatched)`"
    assert refused == (f"{status}, `PUT {template}`" if application.posts else "its routes have no methods")
