"""Who looks: a viewer is made by name alone, and an operator is told what is not counted."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import record_call, there
from usage_middleware import Viewer
from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.store.members import key_member

if TYPE_CHECKING:
    from usage_middleware import Usage

OPERATOR = Viewer.operator()


@pytest.mark.parametrize("told", [(None, None), ("*", None), ("acme", None), ("", None), (None, "key_1"), ("acme", "key_1")])
def test_a_viewer_is_made_by_its_own_methods_alone(told: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Viewer\.organization"):
        Viewer(*told)


@pytest.mark.parametrize("name", [None, "", 7, b"acme"])
def test_a_missing_name_never_widens_the_view(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        Viewer.organization(name)
    for told in ((name, "key_1"), ("acme", name)):
        with pytest.raises(ConfigurationError):
            Viewer.key(*told)


@pytest.mark.parametrize("viewer", [OPERATOR, Viewer.organization("acme"), Viewer.key("acme", "key_1")])
def test_a_copy_sees_the_same(viewer: Viewer) -> None:
    assert deepcopy(viewer) == viewer
    assert deepcopy(viewer).is_operator is viewer.is_operator


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    """Three calls of two organisations."""
    return with_calls(make_usage())


def with_calls(usage: Usage) -> Usage:
    for org, status in (("acme", 200), ("acme", 404), ("default", 200)):
        record_call(usage.recorder, (org, "key_1"), "GET /v1/items", (), status, 8_000, 100, ())
    assert usage.flush()
    return usage


def test_an_empty_organisation_is_the_default_one(usage: Usage) -> None:
    report = usage.reader.summary(OPERATOR, org="")
    assert (report.org_id, report.total_calls) == ("default", 1)


def test_one_organisation_ranked_by_organisation_is_one_row(usage: Usage) -> None:
    report = usage.reader.by_group(OPERATOR, group="org", org="acme")
    assert [(row.bucket, row.calls, row.errors, row.avg_ms) for row in there(report.buckets)] == [("acme", 2, 1, 8.0)]
    assert usage.reader.by_group(OPERATOR, group="org", org="nobody").buckets == []


def test_without_the_operators_tree_all_together_is_refused(make_usage: Callable[..., Usage]) -> None:
    reader = with_calls(make_usage(operator_tree=False)).reader
    for ask in (reader.summary, reader.details, reader.endpoints, reader.by_group, reader.by_key):
        with pytest.raises(QueryError) as refused:
            ask(OPERATOR)
        assert refused.value.code == "missing_org"
    assert reader.summary(OPERATOR, org="acme").total_calls == 2
    assert reader.summary(Viewer.organization("acme")).total_calls == 2


@pytest.mark.parametrize("key", ["key_1", "(key)", "%28key)", "k" * 500])
def test_a_key_may_name_itself_as_the_application_does(make_usage: Callable[..., Usage], key: str) -> None:
    usage = make_usage()
    record_call(usage.recorder, ("acme", key_member(key)), "GET /v1/items", (), 200, 8_000, 100, ())
    assert usage.flush()
    asked = {name: usage.reader.details(Viewer.key("acme", key), key_id=name).usage.requests for name in (None, key, "other")}
    assert asked == {None: 1, key: 1, "other": 0}
