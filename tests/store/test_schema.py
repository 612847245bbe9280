"""Names of members and keys: nobody's name is another's, and none can be taken for one of ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usage_middleware.options import Settings
from usage_middleware.store.members import (
    MEMBER_BYTES,
    endpoint_member,
    is_reserved,
    key_member,
    member,
    member_from_request,
    name_of,
    org_member,
    org_name_of,
)
from usage_middleware.store.schema import BOARD_MEASURES, Schema, segment, status_class

#: Strings of the pieces that escaping is about, and any text at all, lone surrogates included.
pieces = st.lists(
    st.sampled_from(["(", ")", "%", "25", "28", "2A", "*", ":", "{", "}", "~", "a" * 97, "\0", "\n", "é", "other"])
)
hostile = st.one_of(pieces.map("".join), st.text(st.characters(codec=None), max_size=200))


@given(hostile, hostile)
@example("\ud800", "\\ud800")
@example("x" * 200, member("x" * 200))
@example("(", "%28")
def test_different_names_are_different_members(one: str, other: str) -> None:
    assert (member(one) == member(other)) == (one == other)


@given(hostile, hostile)
@example("*", "%2A")
def test_different_organisations_have_different_trees(one: str, other: str) -> None:
    same = (one or "default") == (other or "default")
    schema = Schema(Settings())
    assert (schema.tree(org_member(one)) == schema.tree(org_member(other))) == same


@given(hostile)
def test_no_name_is_a_reserved_member_or_too_long(name: str) -> None:
    found = member(name)
    assert not is_reserved("key", found)
    assert len(found.encode()) <= MEMBER_BYTES
    assert member_from_request(found) == (found or "(none)")


@given(hostile)
def test_a_tenants_tree_has_one_hash_tag_and_is_never_the_operators(name: str) -> None:
    tree = Schema(Settings()).tree(org_member(name))
    assert re.fullmatch(r"usage:\{[^{}:\x00-\x1f]+\}", tree)
    assert tree != "usage:{*}"


@given(hostile.filter(lambda name: len(name) < 40 and "~" not in name and name.isascii()))
def test_a_name_can_be_told_from_its_member(name: str) -> None:
    assert member(name_of(member(name))) == member(name)
    assert name_of(member(name)) == name
    assert org_name_of(org_member(name)) == (name or "default")


@given(hostile)
def test_segments_hold_no_colon_and_keep_names_apart(name: str) -> None:
    found = segment(member(name))
    assert ":" not in found
    assert found.isprintable() or not name.isprintable()


@pytest.mark.parametrize("name", BOARD_MEASURES)
def test_the_board_under_a_key_is_no_measure_of_the_dimension(name: str) -> None:
    schema = Schema(Settings())
    assert schema.key_board("acme", "1d", "2026-11-20", name) != schema.board("acme", "1d", "2026-11-20", "key", name)


def test_endpoints_keep_their_braces_and_hide_their_colons() -> None:
    schema = Schema(Settings())
    label = endpoint_member("GET", "/v1/{id}:run")
    assert schema.series_of("acme", "1d", "2026-11", "endpoint", label) == (
        "usage:{acme}:series:1d:2026-11:endpoint:GET /v1/{id}%3Arun"
    )


def test_a_key_without_a_name_and_no_key_are_told_apart() -> None:
    assert (key_member(""), key_member(None), key_member("(none)")) == ("(none)", "(anonymous)", "%28none)")


@pytest.mark.parametrize(
    ("status", "family"), [(0, "1xx"), (99, "1xx"), (101, "1xx"), (204, "2xx"), (499, "4xx"), (600, "5xx"), (9999, "5xx")]
)
def test_every_status_has_a_class(status: int, family: str) -> None:
    assert status_class(status) == family
