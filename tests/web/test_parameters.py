"""How query strings become parameters, and what is said of those that can't."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest

from usage_middleware.errors import QueryError
from usage_middleware.report.by_key import ByKeyParameters
from usage_middleware.report.endpoints_range import EndpointsParameters
from usage_middleware.report.query import MAX_PARAMETERS, parse
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.summary import SummaryParameters
from usage_middleware.report.view import AnyView
from usage_middleware.web.errors import STATUS

BY_NAME = {view.name: view for view in VIEWS}
START = 1_793_491_200  # 2026-11-01T00:00:00Z


def value(view: str, query: str, name: str) -> object:
    return getattr(parse(BY_NAME[view], query.encode()).params, name)


def refused(view: str, query: str | bytes) -> tuple[int, str, str | None]:
    with pytest.raises(QueryError) as caught:
        parse(BY_NAME[view], query if isinstance(query, bytes) else query.encode())
    return STATUS[caught.value.code], caught.value.code, caught.value.param


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-01T00:00:00Z", START),
        ("2026-11-01t00:00:00z", START),
        ("2026-11-01T00:00Z", START),
        ("2026-11-01", START),
        ("2026-11-01%2000:00:00Z", START),
        ("2026-11-01T05:30:00%2B05:30", START),
        ("2026-11-01T05:30:00+05:30", START),  # nobody encoded the plus: it arrives as a space
        ("2026-11-01T05:30:00+0530", START),
        ("2026-10-31T20:30:00-03:30", START),
        ("2026-11-01T00:00:00.999Z", START + 0.999),
        ("1970-01-01", 0),
        ("9000-01-01", 221_845_392_000),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert value("summary", f"start={text}", "start") == seconds


def test_a_part_of_a_second_is_kept() -> None:
    assert value("summary", "end=2026-11-01T00:00:00.001Z", "end") == START + 0.001


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-31",
        "2026-13-01T00:00:00Z",
        "2026-11-01T24:00:00Z",
        "2026-11-01T00:61:00Z",
        "2026-11-01T00:00:00+05:99",
        "2026-11-01T00:00:00-24:00",
        "2026-11-01T00:00:00",
        "1969-12-31",
        "0000-01-01",
        "0001-01-01T00:00:00Z",
        "9001-01-01",
        "9999-12-31T23:59:59Z",
        "1970-01-01T00:00:00-00:00%00",
        "1970-01-01T00:00:00+05:30",
        "1234567890",
        "%D9%A2%D9%A0%D9%A2%D9%A6-01-01",
    ],
)
def test_what_is_no_time(name: str, text: str) -> None:
    assert refused("summary", f"{name}={text}") == (400, "invalid_window", name)


def test_a_time_without_offset_is_told_to_add_z() -> None:
    with pytest.raises(QueryError, match="add Z"):
        parse(BY_NAME["summary"], b"start=2026-11-01T00:00:00")


def test_a_date_begins_in_the_views_own_zone() -> None:
    assert value("details", "start=2026-11-01&timezone=Asia/Kolkata", "start") == START - 19_800
    assert value("details", "timezone=America/St_Johns&start=2026-11-01", "start") == START + 9_000
    assert value("summary", "start=2026-11-01", "start") == START
    assert value("by-key", "start=2026-11-01&timezone=Asia/Kolkata", "start") == START - 19_800


@pytest.mark.parametrize(
    ("view", "name"), [("summary", "period"), ("by-key", "period"), ("by-group", "range"), ("details", "timeframe")]
)
def test_a_period_means_nothing_where_start_is_given_whatever_it_says(view: str, name: str) -> None:
    assert parse(BY_NAME[view], f"{name}=bogus&start=2026-11-01".encode()) == parse(BY_NAME[view], b"start=2026-11-01")


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "1"])
def test_true(text: str) -> None:
    assert value("by-key", f"include_revoked={text}", "include_revoked") is True


@pytest.mark.parametrize("text", ["false", "False", "0"])
def test_false(text: str) -> None:
    assert value("details", f"include_errors={text}", "include_errors") is False


@pytest.mark.parametrize(
    ("view", "query", "status", "code", "param"),
    [
        ("summary", "period=1h", 400, "invalid_period", "period"),
        ("summary", "period=", 400, "invalid_period", "period"),
        ("summary", "period=30D", 400, "invalid_period", "period"),
        ("by-key", "period=1y", 400, "invalid_period", "period"),
        ("by-group", "range=90d", 400, "invalid_range", "range"),
        ("details", "timeframe=2h", 400, "invalid_timeframe", "timeframe"),
        ("details", "granularity=quarter", 400, "invalid_granularity", "granularity"),
        ("details", "granularity=second", 400, "invalid_granularity", "granularity"),
        ("endpoints", "bucketing_size=minute", 422, "invalid_parameter", "bucketing_size"),
        ("endpoints", "bucketing_size=fortnight", 422, "invalid_parameter", "bucketing_size"),
        ("endpoints", "include_unused_endpoints=maybe", 422, "invalid_parameter", "include_unused_endpoints"),
        ("endpoints", "start_date=2026-03-01T00:00:00Z", 422, "invalid_parameter", "start_date"),
        ("endpoints", "end_date=03/01/2026", 422, "invalid_parameter", "end_date"),
        ("endpoints", "end_date=9999-12-31", 422, "invalid_parameter", "end_date"),
        ("details", "sort_by=name", 422, "invalid_parameter", "sort_by"),
        ("details", "sort_order=up", 422, "invalid_parameter", "sort_order"),
        ("details", "limit=0", 422, "invalid_parameter", "limit"),
        ("details", "limit=1001", 422, "invalid_parameter", "limit"),
        ("details", "limit=ten", 422, "invalid_parameter", "limit"),
        ("details", "limit=1e2", 422, "invalid_parameter", "limit"),
        ("details", "limit=%D9%A1", 422, "invalid_parameter", "limit"),
        ("details", "offset=-1", 422, "invalid_parameter", "offset"),
        ("by-key", f"offset={10**400}", 422, "invalid_parameter", "offset"),
        ("by-group", "limit=1001", 422, "invalid_parameter", "limit"),
        ("by-key", "include_revoked=yes", 422, "invalid_parameter", "include_revoked"),
        ("summary", "format=xml", 422, "invalid_parameter", "format"),
        ("details", "table=keys", 422, "invalid_parameter", "table"),
        ("summary", "table=series", 422, "unknown_parameter", "table"),
        ("summary", "peroid=7d", 422, "unknown_parameter", "peroid"),
        ("summary", "Period=7d", 422, "unknown_parameter", "Period"),
        ("summary", "=7d", 422, "unknown_parameter", ""),
        ("by-group", "timezone=Mars", 400, "invalid_timezone", "timezone"),
        ("by-group", "align=inward", 422, "invalid_parameter", "align"),
        ("by-group", "compare=yes", 422, "invalid_parameter", "compare"),
        ("summary", "period=bogus&end=2026-11-01", 400, "invalid_period", "period"),
        ("summary", "period=7d&period=7d", 422, "invalid_parameter", "period"),
    ],
)
def test_what_is_refused(view: str, query: str, status: int, code: str, param: str) -> None:
    assert refused(view, query) == (status, code, param)


@pytest.mark.parametrize("view", sorted(BY_NAME))
@pytest.mark.parametrize(
    "name",
    [
        "Mars/Phobos",
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "America",
        "%00",
        "UTC%00",
        "x" * 10_000,
        "posixrules%0A",
    ],
)
def test_what_is_no_zone(view: str, name: str) -> None:
    assert refused(view, f"timezone={name}") == (400, "invalid_timezone", "timezone")


def test_messages_are_those_of_the_documents() -> None:
    with pytest.raises(QueryError, match=r"^Invalid timezone: Mars/Phobos$"):
        parse(BY_NAME["endpoints"], b"timezone=Mars/Phobos")
    with pytest.raises(QueryError, match=r"^range must be one of 1h, 24h, 7d, 30d, month_to_date, last_month$"):
        parse(BY_NAME["by-group"], b"range=2h")
    with pytest.raises(QueryError, match=r"^limit must be a whole number from 1 to 1000$"):
        parse(BY_NAME["by-group"], b"limit=")
    with pytest.raises(QueryError, match="there are org, start, end, align, compare, timezone, period, key_id, format"):
        parse(BY_NAME["summary"], b"peroid=7d")


def test_names_that_begin_with_an_underscore_are_ignored() -> None:
    assert parse(BY_NAME["summary"], b"_=1&_=2&_cache=%FF").params == SummaryParameters()


@pytest.mark.parametrize(
    "query", [b"environment=\xff\xfe", b"environment=%ff%fe", b"environment=%00", b"environment=" + b"x" * 10_000]
)
def test_hostile_text_is_text(query: bytes) -> None:
    assert isinstance(parse(BY_NAME["by-key"], query).params, ByKeyParameters)


def test_raw_utf8_is_understood() -> None:
    assert value("by-key", "environment=prüf", "environment") == "prüf"


def test_thousands_of_parameters_are_refused_unread() -> None:
    assert refused("summary", "&".join(f"_{number}=1" for number in range(5_000)))[:2] == (422, "invalid_parameter")
    assert parse(BY_NAME["summary"], "&".join(f"_{number}=1" for number in range(MAX_PARAMETERS)).encode())


def test_a_long_unknown_name_is_not_repeated_whole() -> None:
    status, code, param = refused("summary", "x" * 10_000 + "=1")
    assert (status, code) == (422, "unknown_parameter")
    assert len(param or "") < 200


@pytest.mark.parametrize("view", VIEWS, ids=[view.name for view in VIEWS])
def test_every_parameter_has_what_its_struct_has(view: AnyView) -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(view.asks)}
    derived = {one.name: one for one in view.parameters if one.name not in ("format", "table")}
    assert {name: one.default for name, one in derived.items()} == fields
    for one in derived.values():
        assert one.description
        assert one.kind != "integer" or one.minimum < one.maximum
        if one.example:
            assert parse(view, f"{one.name}={one.example}".encode())
        if one.kind == "choice" and one.default is not None:
            assert one.default in one.choices


def test_dates() -> None:
    asked = parse(BY_NAME["endpoints"], b"start_date=2028-02-29&end_date=2028-03-01").params
    assert isinstance(asked, EndpointsParameters)
    assert (asked.start_date, asked.end_date) == (date(2028, 2, 29), date(2028, 3, 1))
