"""Every request, field, note, default and error that `endpoints-minerva.txt` documents, its example response included."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from tests.seeds.traffic import Traffic, column
from tests.support import Clock
from usage_middleware import KeyInfo, UsageMiddleware, Viewer, WSGIUsageMiddleware
from usage_middleware.web import KeyAuth, usage_app
from usage_middleware.web.flask import usage_blueprint

if TYPE_CHECKING:
    from usage_middleware import Usage

COUNTERS = ("input_records", "resolvable_records", "matches")
RATES = {
    "overall_match_rate": ("matches", "input_records"),
    "resolvable_match_rate": ("matches", "resolvable_records"),
}
LABELS = {"/v1/resolve": "v1/resolve", "/v2/enrich": "v2/enrich", "/v1/lookup": "v1/lookup"}
RESOLVE, ENRICH = "POST /v1/resolve", "POST /v2/enrich"
NOW = "2026-03-26T14:05:12.123456Z"
PERIOD = "start_date=2026-03-24&end_date=2026-03-26"


def label(_: str, template: str) -> str:
    return LABELS[template]


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    usage = make_usage(
        counters=COUNTERS,
        rates=RATES,
        rank_by="matches",
        endpoint_label=label,
    )
    usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    return Traffic(usage, clock)


def calls(traffic: Traffic, when: str, endpoint: str, times: int, *counts: int) -> None:
    """So many calls, the first of which counts everything."""
    first = dict(zip(COUNTERS, counts, strict=True))
    traffic.calls(when, endpoint, **first)  # type: ignore[arg-type]
    if times > 1:
        traffic.calls(when, endpoint, times - 1)


@pytest.fixture
def example(traffic: Traffic) -> Traffic:
    """The calls that cause the document's own example response."""
    calls(traffic, "2026-03-24T09:00:00Z", RESOLVE, 10, 300, 280, 250)
    calls(traffic, "2026-03-24T10:00:00Z", ENRICH, 2, 40, 40, 40)
    calls(traffic, "2026-03-25T08:00:00Z", RESOLVE, 12, 350, 320, 285)
    calls(traffic, "2026-03-25T09:30:00Z", ENRICH, 6, 110, 110, 110)
    calls(traffic, "2026-03-26T14:00:00Z", RESOLVE, 20, 550, 500, 445)
    traffic.reach(NOW)
    return traffic


def get(traffic: Traffic, query: str = "") -> dict[str, Any]:
    reply = traffic.api().get(f"/endpoints?{query}")
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


def bucket(start: str, *numbers: int) -> dict[str, Any]:
    names = ("total_requests", "num_input_records", "num_resolvable_records", "num_matches")
    return {"bucket_start": start, **dict(zip(names, numbers, strict=True))}


def test_the_documents_own_example(example: Traffic) -> None:
    query = f"{PERIOD}&bucketing_size=day&timezone=UTC&include_unused_endpoints=false"
    found = get(example, query)
    resolve, enrich = found["results"]
    assert resolve == {
        "endpoint": "v1/resolve",
        "total_requests": 42,
        "num_input_records": 1200,
        "num_resolvable_records": 1100,
        "num_matches": 980,
        "last_requested_at": resolve["last_requested_at"],
        "buckets": [
            bucket("2026-03-24T00:00:00+00:00", 10, 300, 280, 250),
            bucket("2026-03-25T00:00:00+00:00", 12, 350, 320, 285),
            bucket("2026-03-26T00:00:00+00:00", 20, 550, 500, 445),
        ],
        "overall_match_rate": 0.8166666666666667,
        "resolvable_match_rate": 0.8909090909090909,
    }
    assert enrich == {
        "endpoint": "v2/enrich",
        "total_requests": 8,
        "num_input_records": 150,
        "num_resolvable_records": 150,
        "num_matches": 150,
        "last_requested_at": enrich["last_requested_at"],
        "buckets": [
            bucket("2026-03-24T00:00:00+00:00", 2, 40, 40, 40),
            bucket("2026-03-25T00:00:00+00:00", 6, 110, 110, 110),
            bucket("2026-03-26T00:00:00+00:00", 0, 0, 0, 0),
        ],
        "overall_match_rate": 1.0,
        "resolvable_match_rate": 1.0,
    }
    instants = [datetime.fromisoformat(row["last_requested_at"]).isoformat() for row in found["results"]]
    assert instants == ["2026-03-26T14:00:00+00:00", "2026-03-25T09:30:00+00:00"]
    assert found["request_completed_at"] == NOW
    assert found["api_request_id"].startswith("req_")


def test_without_dates_there_are_totals_and_no_buckets(example: Traffic) -> None:
    found = get(example)
    assert column(found["results"], "endpoint", "total_requests", "buckets") == [
        ("v1/resolve", 42, None),
        ("v2/enrich", 8, None),
    ]
    assert found["results"][0]["num_matches"] == 980


def test_defaults(example: Traffic) -> None:
    spelled_out = get(example, f"{PERIOD}&bucketing_size=day&timezone=UTC&include_unused_endpoints=false")
    assert get(example, PERIOD)["results"] == spelled_out["results"]


def test_the_range_is_inclusive(example: Traffic) -> None:
    found = get(example, "start_date=2026-03-25&end_date=2026-03-25")
    assert column(found["results"], "endpoint", "total_requests") == [("v1/resolve", 12), ("v2/enrich", 6)]
    assert len(found["results"][0]["buckets"]) == 1


def test_the_range_is_inclusive_in_the_zone(example: Traffic) -> None:
    calls(example, "2026-03-26T03:59:59Z", ENRICH, 1, 1, 1, 1)
    calls(example, "2026-03-26T04:00:00Z", ENRICH, 5, 1, 1, 1)
    example.reach(NOW)
    found = get(example, "start_date=2026-03-25&end_date=2026-03-25&timezone=America/New_York")
    enrich = next(row for row in found["results"] if row["endpoint"] == "v2/enrich")
    assert enrich["total_requests"] == 7
    assert column(enrich["buckets"], "bucket_start") == ["2026-03-25T00:00:00-04:00"]


@pytest.mark.parametrize(
    ("size", "starts"),
    [
        ("week", ["2026-02-23", "2026-03-02", "2026-03-09", "2026-03-16", "2026-03-23"]),
        ("month", ["2026-03-01"]),
        ("quarter", ["2026-01-01"]),
        ("year", ["2026-01-01"]),
    ],
)
def test_bucketing_sizes(example: Traffic, size: str, starts: list[str]) -> None:
    found = get(example, f"start_date=2026-03-01&end_date=2026-03-26&bucketing_size={size}")
    buckets = found["results"][0]["buckets"]
    assert column(buckets, "bucket_start") == [f"{start}T00:00:00+00:00" for start in starts]
    assert sum(column(buckets, "total_requests")) == 42


def test_hours(example: Traffic) -> None:
    buckets = get(example, "start_date=2026-03-24&end_date=2026-03-24&bucketing_size=hour")["results"][0]["buckets"]
    assert len(buckets) == 24
    assert buckets[9] == bucket("2026-03-24T09:00:00+00:00", 10, 300, 280, 250)


@pytest.mark.parametrize(
    ("day", "zone", "hours", "first", "last"),
    [
        ("2026-03-08", "America/New_York", 23, "2026-03-08T00:00:00-05:00", "2026-03-08T23:00:00-04:00"),
        ("2026-11-01", "America/New_York", 25, "2026-11-01T00:00:00-04:00", "2026-11-01T23:00:00-05:00"),
        ("2026-03-10", "Asia/Kolkata", 24, "2026-03-10T00:00:00+05:30", "2026-03-10T23:00:00+05:30"),
    ],
)
def test_days_of_23_and_25_hours(traffic: Traffic, day: str, zone: str, hours: int, first: str, last: str) -> None:
    for hour in range(hours):
        traffic.calls(f"{day}T12:00:00Z", RESOLVE, hour)
    traffic.reach(f"{day[:7]}-28T00:00:00Z")
    query = f"start_date={day}&end_date={day}&timezone={zone}&bucketing_size=hour"
    found = get(traffic, query)["results"][0]["buckets"]
    assert (len(found), found[0]["bucket_start"], found[-1]["bucket_start"]) == (hours, first, last)


def test_last_requested_at_is_within_the_range(example: Traffic) -> None:
    found = get(example, "start_date=2026-03-24&end_date=2026-03-25")
    assert found["results"][0]["last_requested_at"] == "2026-03-25T08:00:00Z"


def test_results_are_sorted_by_matches(traffic: Traffic) -> None:
    calls(traffic, "2026-03-25T08:00:00Z", RESOLVE, 50, 10, 10, 1)
    calls(traffic, "2026-03-25T08:00:00Z", ENRICH, 1, 10, 10, 9)
    traffic.reach(NOW)
    assert column(get(traffic)["results"], "endpoint", "num_matches") == [("v2/enrich", 9), ("v1/resolve", 1)]


def test_rates_are_zero_where_there_is_nothing_to_divide_by(traffic: Traffic) -> None:
    calls(traffic, "2026-03-25T08:00:00Z", RESOLVE, 5, 0, 0, 0)
    traffic.reach(NOW)
    (row,) = get(traffic)["results"]
    assert (row["overall_match_rate"], row["resolvable_match_rate"]) == (0.0, 0.0)


def test_results_are_of_the_organization(example: Traffic) -> None:
    example.calls("2026-03-26T14:00:00Z", RESOLVE, 8, key="key_2")
    example.calls("2026-03-26T14:00:00Z", RESOLVE, 100, org="globex")
    example.reach(NOW)
    assert get(example)["results"][0]["total_requests"] == 50


def test_no_usage(traffic: Traffic) -> None:
    traffic.reach(NOW)
    assert get(traffic)["results"] == []
    assert get(traffic, PERIOD)["results"] == []


def test_the_xapikey_is_required(traffic: Traffic) -> None:
    assert traffic.api(None).get("/endpoints").status == 401
    assert traffic.api(None).get("/endpoints", x_api_key="sk_nobody").status == 401
    assert traffic.api(None).get("/endpoints", x_api_key="sk_acme").status == 200


@pytest.mark.parametrize("query", ["start_date=2026-03-01", "end_date=2026-03-01"])
def test_only_one_date(traffic: Traffic, query: str) -> None:
    reply = traffic.api().get(f"/endpoints?{query}")
    assert reply.status == 400
    assert reply.json["error"] == "Bad Request"
    assert reply.json["message"] == "Both start_date and end_date must be provided, or neither."
    assert reply.code == "invalid_window"


def test_an_invalid_timezone(traffic: Traffic) -> None:
    reply = traffic.api().get("/endpoints?timezone=Mars/Phobos")
    assert reply.status == 400
    assert (reply.json["error"], reply.json["message"]) == ("Bad Request", "Invalid timezone: Mars/Phobos")
    assert reply.code == "invalid_timezone"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        (f"{PERIOD}&bucketing_size=minute", 422, "invalid_parameter"),
        (f"{PERIOD}&bucketing_size=Day", 422, "invalid_parameter"),
        ("include_unused_endpoints=perhaps", 422, "invalid_parameter"),
        ("start_date=yesterday&end_date=2026-03-26", 422, "invalid_parameter"),
        ("start_date=2026-02-29&end_date=2026-03-26", 422, "invalid_parameter"),
        ("start_date=2026-13-01&end_date=2026-03-26", 422, "invalid_parameter"),
        ("start_date=2026-03-27&end_date=2026-03-26", 400, "invalid_window"),
        ("start_date=2001-01-01&end_date=2026-03-26", 400, "not_retained"),
        ("start_date=2026-03-01&end_date=8000-01-01&bucketing_size=hour", 422, "window_too_wide"),
        (f"{PERIOD}&timezone=Asia/Kathmandu", 400, "unsupported_timezone"),
        ("bucket_size=day", 422, "unknown_parameter"),
    ],
)
def test_errors(example: Traffic, query: str, status: int, code: str) -> None:
    reply = example.api().get(f"/endpoints?{query}")
    assert (reply.status, reply.code) == (status, code), reply.body


def test_a_date_that_is_not_kept_is_named(traffic: Traffic) -> None:
    traffic.reach(NOW)
    assert traffic.api().get("/endpoints?start_date=2001-01-01&end_date=2026-03-26").json["param"] == "start_date"


def test_a_method_but_get(traffic: Traffic) -> None:
    assert traffic.api().call("POST", "/endpoints").status == 405


def test_a_quarter_hour_zone_works_where_slots_are_finer(make_usage: Callable[..., Usage], clock: Clock) -> None:
    traffic = Traffic(make_usage(slot_minutes=15), clock)
    traffic.usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    traffic.calls("2026-03-24T18:14:59Z", times=3)
    traffic.calls("2026-03-24T18:15:00Z", times=2)
    traffic.reach(NOW)
    (row,) = get(traffic, "start_date=2026-03-24&end_date=2026-03-25&timezone=Asia/Kathmandu")["results"]
    assert column(row["buckets"], "bucket_start", "total_requests") == [
        ("2026-03-24T00:00:00+05:45", 3),
        ("2026-03-25T00:00:00+05:45", 2),
    ]


def test_other_counters_have_fields_of_their_own(make_usage: Callable[..., Usage], clock: Clock) -> None:
    traffic = Traffic(make_usage(counters=("tokens",)), clock)
    traffic.usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    traffic.calls("2026-03-24T18:00:00Z", times=3, tokens=7)
    traffic.reach(NOW)
    (row,) = get(traffic)["results"]
    assert row["endpoint"] == "GET /v1/items"
    assert row["num_tokens"] == 21
    assert "overall_match_rate" not in row


def handler() -> str:
    """Never called."""
    raise NotImplementedError


def starlette(usage: Usage) -> object:
    app = Starlette(
        routes=[
            Route("/v1/resolve", handler, methods=["POST"]),
            Route("/v1/lookup", handler),
            Route("/hidden", handler, include_in_schema=False),
            Mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys))),
        ]
    )
    app.add_middleware(UsageMiddleware, usage=usage)
    app.middleware_stack = app.build_middleware_stack()
    return app


def fastapi(usage: Usage) -> object:
    app = FastAPI()
    router = APIRouter(prefix="/v1")
    router.add_api_route("/resolve", handler, methods=["POST"])
    router.add_api_route("/lookup", handler)
    app.include_router(router)
    app.add_api_route("/hidden", handler, include_in_schema=False)
    app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))
    app.add_middleware(UsageMiddleware, usage=usage)
    app.middleware_stack = app.build_middleware_stack()
    return app


def flask(usage: Usage) -> object:
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/v1/resolve", "resolve", handler, methods=["POST"])
    app.add_url_rule("/v1/lookup", "lookup", handler)
    app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")
    return WSGIUsageMiddleware(app, usage)


def test_unused_endpoints_are_those_of_the_applications_schema(traffic: Traffic) -> None:
    _app = fastapi(traffic.usage)
    calls(traffic, "2026-03-25T08:00:00Z", RESOLVE, 5, 1, 1, 1)
    traffic.reach(NOW)
    assert column(get(traffic)["results"], "endpoint") == ["v1/resolve"]
    assert column(get(traffic, "include_unused_endpoints=false")["results"], "endpoint") == ["v1/resolve"]
    used, unused = get(traffic, "include_unused_endpoints=true")["results"]
    assert (used["endpoint"], used["total_requests"]) == ("v1/resolve", 5)
    assert unused == {
        "endpoint": "v1/lookup",
        "total_requests": 0,
        "num_input_records": 0,
        "num_resolvable_records": 0,
        "num_matches": 0,
        "last_requested_at": None,
        "buckets": None,
        "overall_match_rate": 0.0,
        "resolvable_match_rate": 0.0,
    }
    buckets = get(traffic, f"{PERIOD}&include_unused_endpoints=1")["results"][1]["buckets"]
    assert column(buckets, "total_requests") == [0, 0, 0]


def closed(usage: Usage) -> object:
    app = FastAPI(openapi_url=None)
    app.add_api_route("/v1/lookup", handler)
    app.add_middleware(UsageMiddleware, usage=usage)
    app.middleware_stack = app.build_middleware_stack()
    return app


@pytest.mark.parametrize("build", [starlette, flask, closed])
def test_routes_that_no_schema_tells_of_are_not_shown(traffic: Traffic, build: Callable[[Usage], object]) -> None:
    _app = build(traffic.usage)
    calls(traffic, "2026-03-25T08:00:00Z", RESOLVE, 5, 1, 1, 1)
    traffic.calls("2026-03-25T08:00:00Z", "GET /v1/admin", org="globex")
    traffic.reach(NOW)
    assert column(get(traffic, "include_unused_endpoints=true")["results"], "endpoint") == ["v1/resolve"]


def test_the_application_decides_which_unused_endpoints_a_viewer_is_shown(
    make_usage: Callable[..., Usage], clock: Clock
) -> None:
    asked: list[tuple[Viewer, list[str]]] = []

    def visible(viewer: Viewer, labels: list[str]) -> list[str]:
        asked.append((viewer, labels))
        return [label for label in labels if label != "POST /v1/resolve"]

    usage = make_usage(visible_endpoints=visible)
    _app = starlette(usage)
    viewer = Viewer.organization("acme")
    report = usage.reader.endpoints(viewer, include_unused_endpoints=True)
    assert [row.endpoint for row in report.results] == ["GET /hidden", "GET /v1/lookup"]
    assert asked == [(viewer, ["GET /hidden", "GET /v1/lookup", "POST /v1/resolve"])]


def test_the_routes_are_part_of_what_a_cached_answer_depends_on(traffic: Traffic) -> None:
    _app = fastapi(traffic.usage)
    first = [traffic.api().get("/endpoints?include_unused_endpoints=true").json["results"] for _ in range(2)]
    assert column(first[0], "endpoint") == column(first[1], "endpoint") == ["v1/lookup", "v1/resolve"]
    other = FastAPI()
    other.add_api_route("/v2/enrich", handler)
    other.add_middleware(UsageMiddleware, usage=traffic.usage)
    other.middleware_stack = other.build_middleware_stack()
    found = traffic.api().get("/endpoints?include_unused_endpoints=true")
    assert found.headers["x-cache"] == "MISS"
    assert column(found.json["results"], "endpoint") == ["v1/lookup", "v1/resolve", "v2/enrich"]


def test_csv_is_a_row_an_endpoint_and_bucket(example: Traffic) -> None:
    lines = example.api().get(f"/endpoints?{PERIOD}&format=csv").body.split(b"\r\n")
    assert lines[0].startswith(b"endpoint,bucket_start,total_requests,num_")
    assert lines[1].startswith(b"v1/resolve,2026-03-24T00:00:00+00:00,10,")
    assert len(lines) == 1 + 2 * 3 + 1


def test_of_one_key_counters_are_in_the_totals(traffic: Traffic) -> None:
    calls(traffic, "2026-03-25T09:30:00Z", ENRICH, 3, 150, 140, 70)
    calls(traffic, "2026-03-26T10:00:00Z", RESOLVE, 2, 40, 30, 20)
    traffic.calls("2026-03-26T10:00:00Z", RESOLVE, key="key_2", matches=9)
    traffic.reach(NOW)
    api = traffic.api(cache_seconds=0)
    for asked in ("key_id=key_1", f"key_id=key_1&{PERIOD}", "key_id=key_1&start=2026-03-24&compare=previous"):
        found = api.get(f"/endpoints?{asked}").json
        assert found["totals"] == {
            "total_requests": 5,
            "num_input_records": 190,
            "num_resolvable_records": 170,
            "num_matches": 90,
        }
        assert {row["num_matches"] for row in found["results"]} == {None}
    assert found["previous"]["totals"] == dict.fromkeys(found["totals"], 0)
    assert api.get("/series?measure=c.matches&key_id=key_1").json["totals"] == {"c.matches": 90}
