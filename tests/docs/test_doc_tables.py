"""The generated tables of the docs are those that the settings give."""

from __future__ import annotations

from tests.docs.doc_tables import BEGIN, END, PAGE, rewritten


def test_the_table_of_retention_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert BEGIN in page
    assert END in page
    assert page == rewritten(page), "run: python -m tests.docs.doc_tables"
