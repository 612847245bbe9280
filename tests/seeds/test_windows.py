"""What was asked is what is answered: windows over HTTP, as the clients of the documents ask for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.seeds.traffic import NOW, Traffic, at, column
from tests.support import Clock, ServerProcess, record_call
from tests.web.hosts import Api, Reply
from usage_middleware import KeyInfo, Usage, Viewer

NEW_YORK = "timezone=America/New_York"
VIEWS = ("/summary", "/", "/by-group", "/by-key", "/endpoints", "/series")
PERIOD = {"/summary": "period", "/by-key": "period", "/series": "period", "/by-group": "range", "/": "timeframe"}


def _traffic(make_usage: Callable[..., Usage], clock: Clock, **options: Any) -> Traffic:
    usage = make_usage(dimensions=("project",), counters=("matches",), **options)
    for key_id in ("key_1", "key_2"):
        usage.keys.put("acme", KeyInfo(id=key_id, name=key_id), secret=f"sk_{key_id}")
    return Traffic(usage, clock)


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    return _traffic(make_usage, clock)


@pytest.fixture
def traffic_without_history(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    return _traffic(make_usage, clock, history=False)


#: How old the calls of `spread` are, in seconds: one every 7 hours of 120 days.
AGES = [7 * 3600 * step + 180 for step in range(120 * 24 // 7)]


@contextmanager
def _lived(server: ServerProcess, *, history: bool) -> Iterator[Traffic]:
    """120 days of calls by two keys, that no test adds to."""
    clock = Clock()
    options: dict[str, Any] = {"dimensions": ("project",), "counters": ("matches",), "history": history}
    with Usage(server.url, namespace=f"t{secrets.token_hex(6)}", clock=clock, flush_interval=3600, **options) as usage:
        for key_id in ("key_1", "key_2"):
            usage.keys.put("acme", KeyInfo(id=key_id, name=key_id), secret=f"sk_{key_id}")
        for step, age in reversed(list(enumerate(AGES))):
            clock.set(at(NOW) - age)
            caller, status = ("acme", f"key_{step % 2 + 1}"), 500 if step % 5 == 0 else 200
            record_call(usage.recorder, caller, f"GET /{step % 3}", ("(none)",), status, 8_000, 100, (0,))
            assert step % 10 or usage.flush()
        yield Traffic(usage, clock)


@pytest.fixture(scope="module")
def lived(server: ServerProcess) -> Iterator[Traffic]:
    with _lived(server, history=True) as found:
        yield found


@pytest.fixture(scope="module")
def lived_without_history(server: ServerProcess) -> Iterator[Traffic]:
    with _lived(server, history=False) as found:
        yield found


@pytest.fixture
def spread(lived: Traffic) -> Traffic:
    """A call every 7 hours of 120 days, looked at now."""
    lived.reach()
    return lived


@pytest.fixture
def spread_without_history(lived_without_history: Traffic) -> Traffic:
    """The same, where half-hours and days go when they are old."""
    lived_without_history.reach()
    return lived_without_history


def ask(traffic: Traffic, path: str) -> Any:
    reply = traffic.api("sk_key_1", cache_seconds=0).get(path)
    assert reply.status == 200, reply.body
    return reply.json


def refused(traffic: Traffic, path: str) -> Reply:
    reply = traffic.api("sk_key_1", cache_seconds=0).get(path)
    assert reply.status >= 400, reply.body
    return reply


def total(found: Any) -> int:
    """All calls of an answer, whichever view gave it."""
    if "usage" in found:
        return int(found["usage"]["requests"])
    if "total_calls" in found:
        return int(found["total_calls"])
    totals = found["totals"]
    return int(next(totals[name] for name in ("calls", "request_count", "total_requests") if name in totals))


def window(found: Any) -> Any:
    return found.get("window") or found["usage"]["window"]


def key_auth(viewer: Viewer) -> Callable[[Any], Viewer]:
    return lambda _: viewer


def looks(traffic: Traffic, viewer: Viewer) -> Api:
    return traffic.api(None, key_auth(viewer), cache_seconds=0)


def test_an_hour_of_20_days_ago_is_that_hour(traffic_without_history: Traffic) -> None:
    traffic_without_history.calls("2026-10-31T03:00:00Z", times=14)
    traffic_without_history.calls("2026-10-31T10:30:00Z", project="search")
    traffic_without_history.reach()
    found = ask(traffic_without_history, "/summary?start=2026-10-31T10:00:00Z&end=2026-10-31T11:00:00Z")
    assert (found["total_calls"], found["window"]["start"], found["window"]["end"]) == (
        1,
        "2026-10-31T10:00:00Z",
        "2026-10-31T11:00:00Z",
    )
    assert "requested" not in found["window"]
    assert column(found["by_endpoint"], "endpoint", "calls") == [("GET /v1/items", 1)]
    assert (found["by_project"], found["latency_ms"]["avg"], found["latency_ms"]["p50"]) == (None, 8.0, None)
    assert set(found["unavailable"]) == {"by_project", *(f"latency_ms.p{n}" for n in (50, 90, 95, 99))}
    assert found["unavailable"]["by_project"]["since"] == "2026-11-11T13:30:00Z"
    assert "Edges within UTC days" in found["unavailable"]["by_project"]["message"]


def test_with_history_an_hour_of_20_days_ago_is_whole(traffic: Traffic) -> None:
    traffic.calls("2026-10-31T03:00:00Z", times=14)
    traffic.calls("2026-10-31T10:30:00Z", project="search")
    traffic.reach()
    found = ask(traffic, "/summary?start=2026-10-31T10:00:00Z&end=2026-10-31T11:00:00Z")
    assert (found["total_calls"], found["by_project"]) == (1, [{"project_name": "search", "calls": 1}])
    assert (found["latency_ms"]["avg"], found["unavailable"]) == (8.0, {})
    assert found["latency_ms"]["p50"] > 0


def test_what_is_included_sorted_or_paged_changes_neither_window_nor_total(spread: Traffic) -> None:
    flags = (
        "",
        "&include_endpoints=false&include_latency=false",
        "&include_errors=false",
        "&sort_by=errors",
        "&limit=1&offset=2",
    )
    for frame in ("1h", "24h", "7d", "90d", "1y", "all", "last_month"):
        for key in ("", "&key_id=key_2"):
            found = [ask(spread, f"/?timeframe={frame}{key}{flag}")["usage"] for flag in flags]
            assert {(one["requests"], one["window"]["start"], one["window"]["end"]) for one in found} == {
                (found[0]["requests"], found[0]["window"]["start"], found[0]["window"]["end"])
            }


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("period", ["1h", "24h", "7d", "30d", "90d", "month_to_date", "last_month"])
@pytest.mark.parametrize("viewer", [Viewer.organization("acme"), Viewer.key("acme", "key_1")], ids=["org", "key"])
def test_two_views_of_one_period_give_one_total(spread: Traffic, period: str, zone: str, viewer: Viewer) -> None:
    spread.reach("2026-11-20T13:01:00Z")
    found = []
    for path, name in PERIOD.items():
        reply = looks(spread, viewer).get(f"{path}?{name}={period}&timezone={zone}")
        if not (reply.status == 400 and reply.code == f"invalid_{name}"):
            found.append(reply.json)
    assert len(found) >= 2 if period != "1h" else found
    assert len({(total(one), window(one)["start"], window(one)["end"]) for one in found}) == 1


def test_an_organisation_is_its_keys_together(spread: Traffic) -> None:
    for period in ("24h", "7d", "30d", "90d"):
        keys = [ask(spread, f"/summary?period={period}&key_id={key}")["total_calls"] for key in ("key_1", "key_2")]
        found = ask(spread, f"/by-key?period={period}")
        assert sum(keys) == ask(spread, f"/summary?period={period}")["total_calls"] == total(found)
        assert sorted(column(found["keys"], "request_count")) == sorted(keys)


def test_october_of_new_york_is_that_month(spread_without_history: Traffic) -> None:
    asked = f"start=2026-10-01&end=2026-11-01&{NEW_YORK}"
    bill, chargeback = ask(spread_without_history, f"/summary?{asked}"), ask(spread_without_history, f"/by-key?{asked}")
    low, high = at("2026-10-01T04:00:00Z"), at("2026-11-01T04:00:00Z")
    assert total(bill) == total(chargeback) == sum(low <= at(NOW) - age < high for age in AGES)
    assert bill["window"] == chargeback["window"]
    assert sum(column(bill["by_day"], "calls")) == total(bill)
    assert (bill["by_day"][0]["day"], bill["by_day"][-1]["day"]) == ("2026-10-01", "2026-10-31")
    assert (chargeback["keys"], chargeback["other"]) == (None, None)
    assert chargeback["unavailable"]["keys"]["code"] == "not_retained"
    csv = refused(spread_without_history, f"/by-key?{asked}&format=csv")
    assert (csv.status, csv.code) == (400, "unavailable")


def test_august_by_key_has_counts_and_no_distribution(spread_without_history: Traffic) -> None:
    found = ask(spread_without_history, "/by-key?start=2026-08-01&end=2026-09-01")
    assert sum(column(found["keys"], "request_count")) == total(found) > 50
    assert {row["endpoint_distribution"] for row in found["keys"]} == {None}
    assert set(found["unavailable"]) == {"endpoint_distribution"}
    assert ask(spread_without_history, "/by-key?period=7d")["unavailable"] == {}


def test_with_history_months_of_new_york_are_whole(spread: Traffic) -> None:
    asked = f"start=2026-10-01&end=2026-11-01&{NEW_YORK}"
    bill, chargeback = ask(spread, f"/summary?{asked}"), ask(spread, f"/by-key?{asked}")
    assert sum(column(chargeback["keys"], "request_count")) == total(bill) > 90
    assert sum(sum(row["endpoint_distribution"].values()) for row in chargeback["keys"]) == total(bill)
    assert (bill["unavailable"], chargeback["unavailable"]) == ({}, {})
    year = ask(spread, f"/endpoints?start_date=2026-01-01&end_date=2026-11-21&{NEW_YORK}&bucketing_size=month")
    buckets = [row["buckets"] for row in year["results"]]
    assert {len(row) for row in buckets} == {11}
    assert sum(row[9]["total_requests"] for row in buckets) == total(bill)
    assert sum(bucket["total_requests"] for row in buckets for bucket in row) == len(AGES)


def test_keys_come_from_their_series_where_boards_cannot_follow(spread: Traffic) -> None:
    found = ask(spread, f"/by-key?start=2026-10-25&end=2026-11-05&{NEW_YORK}")
    assert found["window"]["start"] == "2026-10-25T04:00:00Z"
    assert sum(column(found["keys"], "request_count")) == total(found) > 30
    assert sum(column(found["keys"], "error_count")) == found["totals"]["error_count"] > 0


def test_old_months_of_a_zone_are_refused_with_the_nearest(spread_without_history: Traffic) -> None:
    asked = f"start_date=2026-01-01&end_date=2026-11-21&{NEW_YORK}&bucketing_size=month"
    reply = refused(spread_without_history, f"/endpoints?{asked}")
    assert (reply.status, reply.code) == (400, "not_retained")
    (nearest,) = reply.json["nearest"]
    assert nearest == {"start": "2026-09-01T04:00:00Z", "end": "2026-11-22T05:00:00Z"}
    found = ask(
        spread_without_history,
        f"/endpoints?{NEW_YORK}&bucketing_size=month&start={nearest['start']}&end={nearest['end']}&align=exact",
    )
    assert column(found["results"][0]["buckets"], "bucket_start")[0] == "2026-09-01T00:00:00-04:00"
    utc = ask(spread_without_history, "/endpoints?start_date=2026-01-01&end_date=2026-11-21&bucketing_size=quarter")
    assert len(utc["results"][0]["buckets"]) == 4


def test_days_in_a_zone_that_are_gone_are_null_beside_the_total(spread_without_history: Traffic) -> None:
    found = looks(spread_without_history, Viewer.key("acme", "key_1")).get(f"/summary?period=90d&{NEW_YORK}").json
    assert (found["by_day"], found["unavailable"]["by_day"]["code"]) == (None, "not_retained")
    assert found["total_calls"] > 100
    assert found["window"]["requested"] == {"start": "2026-08-22T04:00:00Z", "end": NOW}
    reply = looks(spread_without_history, Viewer.key("acme", "key_1")).get(f"/summary?period=90d&{NEW_YORK}&format=csv")
    assert (reply.status, reply.code) == (400, "unavailable")
    year = ask(spread_without_history, f"/?timeframe=1y&{NEW_YORK}")
    assert (year["time_series"], year["usage"]["granularity"]) == (None, None)
    assert set(year["unavailable"]) == {"time_series"}


def test_buckets_of_endpoints_between_times_that_are_gone_are_null_beside_the_total(spread_without_history: Traffic) -> None:
    look, times = (
        looks(spread_without_history, Viewer.key("acme", "key_1")),
        "start=2026-11-01T00:00:00Z&end=2026-11-20T00:00:00Z",
    )
    found, gone = look.get(f"/endpoints?{times}").json, look.get(f"/endpoints?{times}&{NEW_YORK}").json
    assert total(gone) == total(found) > 20
    assert {row["buckets"] for row in gone["results"]} == {None}
    assert gone["unavailable"].keys() == {"results.buckets"}
    csv = look.get(f"/endpoints?{times}&{NEW_YORK}&format=csv")
    assert (csv.status, csv.code) == (400, "unavailable")
    dates = look.get(f"/endpoints?start_date=2026-11-01&end_date=2026-11-19&{NEW_YORK}")
    assert (dates.status, dates.code) == (400, "not_retained")


def test_days_of_the_summary_are_those_of_the_zone(traffic: Traffic) -> None:
    traffic.calls("2026-11-19T18:29:59Z", times=3)
    traffic.calls("2026-11-19T18:30:00Z", times=2)
    traffic.reach()
    days = ask(traffic, "/summary?period=7d&timezone=Asia/Kolkata")["by_day"]
    assert column(days[-2:], "day", "calls") == [("2026-11-19", 3), ("2026-11-20", 2)]
    reply = refused(traffic, "/summary?period=7d&timezone=Asia/Kathmandu")
    assert (reply.status, reply.code) == (400, "unsupported_timezone")


@pytest.mark.parametrize("view", ["/summary", "/by-key"])
def test_the_cap_is_said_and_the_future_does_not_count(spread: Traffic, view: str) -> None:
    found = ask(spread, f"{view}?start=2026-01-01&end=2026-11-10")
    assert window(found)["start"] == "2026-08-12T00:00:00Z"
    assert window(found)["requested"] == {"start": "2026-01-01T00:00:00Z", "end": "2026-11-10T00:00:00Z"}
    ahead = window(ask(spread, f"{view}?start=2026-09-01&end=2026-12-31"))
    assert (ahead["start"], ahead["end"], "requested" in ahead) == ("2026-09-01T00:00:00Z", "2026-12-31T00:00:00Z", False)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_last_request_of_a_keys_endpoints_is_not_kept_so_that_order_is_refused(spread: Traffic, order: str) -> None:
    reply = refused(spread, f"/?key_id=key_1&sort_by=timestamp&sort_order={order}")
    assert (reply.status, reply.code, reply.json["param"]) == (422, "invalid_parameter", "sort_by")
    assert looks(spread, Viewer.key("acme", "key_1")).get("/?sort_by=timestamp").status == 422


@pytest.mark.parametrize("view", ["/", "/summary", "/by-group", "/endpoints", "/series"])
def test_a_key_without_a_name_is_nobodys(traffic: Traffic, view: str) -> None:
    traffic.calls("2026-11-20T13:00:00Z", key="(none)")
    traffic.calls("2026-11-20T13:00:00Z", times=2)
    traffic.reach()
    counts = [total(ask(traffic, f"{view}{query}")) for query in ("?key_id=", "?key_id=(none)", "?key_id=key_1", "")]
    assert counts in ([0, 1, 2, 3], [0, 0, 0, 0])


@pytest.mark.parametrize("view", ["/", "/summary", "/by-group", "/endpoints", "/series"])
def test_one_key_in_every_view(spread: Traffic, view: str) -> None:
    whole, *keys = (total(ask(spread, f"{view}?start=2026-11-01{key}")) for key in ("", "&key_id=key_1", "&key_id=key_2"))
    assert whole == sum(keys) > 60
    assert total(ask(spread, f"{view}?start=2026-11-01&key_id=unknown")) == 0


def test_a_period_means_nothing_beside_start(spread: Traffic) -> None:
    assert ask(spread, "/summary?period=bogus&start=2026-11-01") == ask(spread, "/summary?start=2026-11-01")


def test_a_project_that_is_not_declared_is_one_row(make_usage: Callable[..., Usage], clock: Clock) -> None:
    usage = make_usage()
    usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_key_1")
    bare = Traffic(usage, clock)
    bare.calls("2026-11-20T10:00:00Z", times=4)
    bare.reach()
    assert ask(bare, "/summary")["by_project"] == [{"project_name": "default", "calls": 4}]


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_said_of_the_future(traffic: Traffic, clock: Clock, view: str) -> None:
    clock.set(at(NOW) + 0.4)
    found = ask(traffic, view)
    assert window(found)["end"] == "2026-11-20T13:45:20.400Z"
    assert found.get("generated_at", found.get("timestamp")) == "2026-11-20T13:45:20.400Z"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("days", [1 / 24, 1, 7, 30, 90])
def test_what_a_browser_asks_is_answered_in_full(spread: Traffic, view: str, days: float) -> None:
    """JavaScript's `new Date(Date.now() - days * 864e5).toISOString()`."""
    start = datetime.fromisoformat(NOW) - timedelta(days=days, milliseconds=-123)
    found = ask(spread, f"{view}?start={start.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}")
    echoed = window(found)
    moved = at(echoed["requested"]["start"]) - at(echoed["start"])
    assert 0 <= moved <= days * 86_400 / 10
    assert total(found) == sum(at(echoed["start"]) <= at(NOW) - age for age in AGES)
    assert found["unavailable"] == {} or (view == "/by-key" and days == 7)


@pytest.mark.parametrize("view", VIEWS)
def test_compared_with_the_window_before(spread: Traffic, view: str) -> None:
    for asked in ("start=2026-10-01&end=2026-11-01", "start=2026-11-10T06:00:00Z&end=2026-11-12T18:00:00Z"):
        found = ask(spread, f"{view}?{asked}&compare=previous")
        before = found["previous"]
        again = ask(spread, f"{view}?start={before['window']['start']}&end={before['window']['end']}&align=exact")
        name = next(iter(before["totals"]))
        assert before["totals"][name] == total(again) > 0
        assert before["change"][name] == pytest.approx(total(found) / total(again) - 1)
        assert "previous" not in ask(spread, f"{view}?{asked}")


def test_a_window_before_that_is_gone_is_null(spread: Traffic) -> None:
    found = ask(spread, "/?timeframe=all&compare=previous")
    assert found["previous"] is None
    assert found["unavailable"]["previous"]["code"] == "not_retained"


def test_a_change_from_nothing_is_null(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:30:00Z", times=3)
    traffic.reach()
    assert ask(traffic, "/by-group?compare=previous&range=1h")["previous"]["change"] == {
        "calls": None,
        "errors": None,
        "bytes": None,
    }


def test_a_page_asks_all_views_for_the_window_that_one_echoed(spread: Traffic) -> None:
    first = ask(spread, f"/summary?period=30d&end=2026-11-20T13:45:00Z&{NEW_YORK}")
    echoed = first["window"]
    exact = f"start={echoed['start']}&end={echoed['end']}&align=exact&{NEW_YORK}"
    assert {total(ask(spread, f"{view}?{exact}")) for view in VIEWS} == {total(first)}


@pytest.mark.parametrize("view", VIEWS)
def test_parts_of_a_second_are_said_where_they_are_moved(spread: Traffic, view: str) -> None:
    asked = {"start": "2026-11-10T12:00:00.250Z", "end": "2026-11-12T18:29:59.875Z"}
    echoed = window(ask(spread, f"{view}?start={asked['start']}&end={asked['end']}"))
    assert (echoed["start"], echoed["end"]) == ("2026-11-10T12:00:00Z", "2026-11-12T18:30:00Z")
    assert echoed["requested"] == asked


@pytest.mark.parametrize("view", VIEWS)
def test_an_end_in_the_running_second_is_now(spread: Traffic, clock: Clock, view: str) -> None:
    spread.reach("2026-11-20T13:45:20.500Z")
    start = "start=2026-11-10T12:00:00Z"
    for end in ("13:45:20.500Z", "13:45:21Z"):
        echoed = window(ask(spread, f"{view}?{start}&end=2026-11-20T{end}"))
        assert (echoed["end"], "requested" in echoed) == ("2026-11-20T13:45:20.500Z", False)
    echoed = window(ask(spread, f"{view}?{start}&end=2026-11-20T13:45:20.250Z"))
    assert (echoed["end"], echoed["requested"]["end"]) == ("2026-11-20T13:45:20.500Z", "2026-11-20T13:45:20.250Z")


@pytest.mark.parametrize(
    "asked",
    [
        "/?granularity=minute&start=2026-11-17T13:15:00Z&end=2026-11-17T13:45:00Z",
        "/?granularity=day&timezone=Asia/Gaza&key_id=key_1&start=2026-08-10T06:30:00Z&end=2026-11-15T13:15:00Z",
        "/?granularity=minute&timeframe=1y&timezone=Asia/Kolkata",
        "/series?granularity=hour&key_id=key_1&endpoint=GET+/1&timezone=America/Nuuk&start=2026-10-18T13:15:00Z",
        "/series?granularity=minute&period=90d&group=endpoint&timezone=Africa/Casablanca",
        "/summary?timezone=Asia/Kathmandu&start=2026-10-18T13:15:00Z&end=2026-10-18T13:25:00Z",
        "/endpoints?timezone=Asia/Kathmandu&start=2026-10-18T13:15:00Z&end=2026-10-18T13:25:00Z",
        "/summary?timezone=Pacific/Pago_Pago&period=90d&key_id=key_1&align=exact",
        "/by-key?timezone=Asia/Beirut&start=2026-07-02T09:00:00Z&end=2026-11-20T13:45:20Z",
        f"/endpoints?start_date=2026-01-01&end_date=2026-11-21&{NEW_YORK}",
        f"/endpoints?start_date=2026-09-01&end_date=2026-11-20&bucketing_size=week&key_id=key_1&{NEW_YORK}",
    ],
)
def test_the_nearest_windows_of_a_question_answer_it(spread: Traffic, asked: str) -> None:
    view, _, query = asked.partition("?")
    reply = spread.api("sk_key_1", cache_seconds=0).get(asked)
    kept = [
        pair
        for pair in query.split("&")
        if pair.partition("=")[0] in ("granularity", "timezone", "key_id", "endpoint", "group", "bucketing_size")
    ]
    assert reply.json.get("code") != "not_retained" or reply.json["nearest"]
    for nearest in reply.json.get("nearest", []):
        exact = "&".join([*kept, f"start={nearest['start']}", f"end={nearest['end']}", "align=exact"])
        echoed = window(ask(spread, f"{view}?{exact}"))
        assert (echoed["start"], echoed["end"], "requested" in echoed) == (nearest["start"], nearest["end"], False)


def test_where_no_window_helps_the_error_says_what_would(spread: Traffic) -> None:
    minutes = refused(spread, "/?granularity=minute&start=2026-11-17T13:15:00Z&end=2026-11-17T13:45:00Z")
    assert (minutes.code, "finest that is kept is hour" in minutes.json["message"]) == ("invalid_granularity", True)
    zone = refused(spread, "/summary?timezone=Asia/Kathmandu&start=2026-10-18T13:15:00Z&end=2026-10-19T13:25:00Z&align=exact")
    assert zone.code == "unsupported_timezone"


@pytest.mark.parametrize("measure", ["calls", "latency_ms", "p50"])
@pytest.mark.parametrize("more", ["", "&endpoint=GET+/1", "&group=endpoint", "&group=status", "&group=project", "&group=key"])
def test_a_period_that_begins_this_very_second_has_no_calls(spread: Traffic, measure: str, more: str) -> None:
    spread.reach("2026-12-01T00:00:00Z")
    reply = spread.api("sk_key_1", cache_seconds=0).get(f"/series?period=month_to_date&measure={measure}{more}")
    assert reply.code == "unsupported_measure" if reply.status == 400 else not next(iter(reply.json["totals"].values()))
    for view, name in PERIOD.items():
        assert total(ask(spread, f"{view}?{name}=month_to_date")) == 0
