"""No viewer sees anything of anybody else: not by its own name, not by a parameter, not by a path, not from the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.support import record_call
from tests.web.hosts import HOSTS, Api
from usage_middleware import KeyInfo, Viewer
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.store.members import endpoint_member, key_member, org_member
from usage_middleware.web import KeyAuth

if TYPE_CHECKING:
    from usage_middleware import Usage

#: Names that want to be something else: another organisation, the operator, a part of a Redis key, a reserved member.
NAMES = [
    "acme",
    "Acme",
    "acme ",
    "acme:",
    "acme}",
    "{acme}",
    "acme}:series:1d",
    "acme\0",
    "acme\n",
    "acme\r\nX-Evil: 1",
    "acme%00",
    "*",
    "%2A",
    "%252A",
    "a*",
    "?",
    "[a-z]*",
    "(other)",
    "%28other)",
    "(anonymous)",
    "(none)",
    "Default",
    "calls",
    "latency",
    "cache:index",
    "seen:key",
    "key~3",
    "../acme",
    "acme/../globex",
    "é",
    "\ud800",
    "acme\udcff",
    "'; DROP TABLE usage; --",
    "<script>alert(1)</script>",
    "x" * 10_000,
    "x" * 9_999,
    "\u202egro",
    "null",
    "true",
    " ",
]
BY_VIEW = pytest.mark.parametrize("view", VIEWS, ids=[view.name for view in VIEWS])
SERIES = next(view for view in VIEWS if view.name == "series")
MARK = "belongs-to"


def secret(number: int) -> str:
    return f"sk_{number}"


def calls_of(number: int) -> int:
    """How often each name is called."""
    return 5 + number


def record(usage: Usage, org: str, key: str, endpoint: str, project: str, times: int) -> None:
    caller = org_member(org), key_member(key)
    record_call(usage.recorder, caller, f"GET {endpoint}", (project,), 200, 8_000, times, (times,))
    for _ in range(times - 1):
        record_call(usage.recorder, caller, f"GET {endpoint}", (project,), 200, 8_000, 0, (0,))


@pytest.fixture(params=[None, {"key": 4, "endpoint": 3, "project": 2}], ids=["whole boards", "sharded boards"])
def crowd(make_usage: Callable[..., Usage], request: pytest.FixtureRequest) -> Usage:
    """Every name is an organisation with a key, an endpoint and a project that say whose they are."""
    usage = make_usage(dimensions=("project",), counters=("records",), shards=request.param or {})
    for number, org in enumerate(NAMES):
        usage.keys.put(org, KeyInfo(id="key_1", name=f"{MARK}-{number}-name"), secret=secret(number))
        record(usage, org, "key_1", f"/{MARK}-{number}-endpoint", f"{MARK}-{number}-project", calls_of(number))
    assert usage.flush()
    return usage


def marks(body: bytes) -> set[int]:
    """Whose names stand in an answer."""
    return {int(part.split(b"-", 1)[0]) for part in body.split(f"{MARK}-".encode())[1:]}


def total(view: AnyView, found: Any) -> int:
    """The calls that an answer is about."""
    counted: dict[str, Callable[[], int]] = {
        "summary": lambda: found["total_calls"],
        "details": lambda: found["usage"]["requests"],
        "endpoints": lambda: sum(row["total_requests"] for row in found["results"]),
        "by-group": lambda: found["totals"]["calls"],
        "by-key": lambda: found["totals"]["request_count"],
        "series": lambda: found["totals"].get("calls", 0),
    }
    return counted[view.name]()


@BY_VIEW
def test_every_organization_sees_itself_alone(crowd: Usage, view: AnyView) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)))
    group = "?group=endpoint" if view.name in ("by-group", "series") else ""
    for number in range(len(NAMES)):
        for _ in range(2):  # once computed, once from the cache
            reply = api.with_key(secret(number)).get(f"{view.path}{group}")
            assert reply.status == 200, reply.body
            assert total(view, reply.json) == calls_of(number)
            assert marks(reply.body) == {number}


def hostile_values(number: int) -> Iterator[str]:
    """What a viewer might try to see somebody else: names as they are, as members, as parts of keys."""
    for name in NAMES[:8] + NAMES[11:14]:
        if name != NAMES[number]:
            yield name
            yield org_member(name)
    yield from ("", "key_1", "org", "key", "{acme}:series:1d:2026-11", "acme:key:key_1")
    yield from (f"{MARK}-0-project", f"GET /{MARK}-0-endpoint")


@BY_VIEW
@pytest.mark.parametrize("number", [NAMES.index("Acme"), NAMES.index("*"), NAMES.index("acme}")])
def test_no_parameter_shows_anybody_else(crowd: Usage, view: AnyView, number: int) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), secret(number))
    for parameter in view.parameters:
        for value in hostile_values(number):
            reply = api.get(f"{view.path}?{parameter.name}={quote(value, safe='', errors='surrogatepass')}")
            assert reply.status in (200, 400, 404, 422)
            assert marks(reply.body.replace(value.encode("utf-8", "replace"), b"")) <= {number}, (parameter.name, value)
            if reply.status == 200:
                assert total(view, reply.json) in (0, calls_of(number)), (parameter.name, value)


@BY_VIEW
def test_other_organizations_are_not_found_whether_they_exist_or_not(crowd: Usage, view: AnyView) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), secret(NAMES.index("acme")))
    answers = set()
    for org in ("default", "*", "%2A", "Acme", "nobody", "acme ", "", "(other)"):
        reply = api.get(f"{view.path}?org={quote(org)}")
        assert (reply.status, reply.code) == (404, "not_found")
        answers.add(reply.body)
    assert len(answers) == 1
    assert api.get(f"{view.path}?org=acme").status == 200


@BY_VIEW
def test_another_organizations_key_is_a_key_without_calls(crowd: Usage, view: AnyView) -> None:
    crowd.keys.put("acme", KeyInfo(id="only_acmes", name="Mine"), secret="sk_mine")
    record(crowd, "acme", "only_acmes", "/mine", "mine", 3)
    assert crowd.flush()
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), secret(1))
    mine = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), "sk_mine")
    assert mine.get("/?key_id=only_acmes").json["usage"]["requests"] == 3
    assert api.get("/?key_id=only_acmes").json["usage"]["requests"] == 0
    found = api.get("/?key_id=only_acmes").json
    never = api.get("/?key_id=never_existed").json
    for answer in (found, never):
        del answer["usage"]["key_id"]
    assert found == never
    assert b"only_acmes" not in api.get(view.path).body


@BY_VIEW
def test_an_organization_called_star_is_nobodys_operator(crowd: Usage, view: AnyView) -> None:
    star = NAMES.index("*")
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), secret(star))
    assert total(view, api.get(view.path).json) == calls_of(star)
    assert api.get("/by-group?group=org").code == "invalid_group"
    assert api.get("/health").code == "forbidden"
    operator = Api(HOSTS[4], HOSTS[4].make(crowd, auth=lambda _: Viewer.operator()))
    assert total(view, operator.get(f"{view.path}?org=*").json) == calls_of(star)
    if view.name != "by-key":
        assert total(view, operator.get(view.path).json) == sum(map(calls_of, range(len(NAMES))))


KEYS = [*NAMES[:34], "key_1:calls", "key_1", "latency_us", "1xx", "key~0", "endpoint", "seen"]
ENDPOINTS = [
    "/items",
    "/items:calls",
    "/items:latency",
    "/items:key:key_1",
    "/items/{id}",
    "/items/{id}:run",
    "/items%3Acalls",
    "/items}",
    "/*",
    "/calls",
    "/(unmatched)",
    "/\0",
    "/\n",
    "/\udcff",
    "/" + "x" * 10_000,
    "/" + "x" * 9_999,
    "",
    " ",
    "/ /",
]


@pytest.fixture
def household(make_usage: Callable[..., Usage]) -> Usage:
    """One organisation whose keys and endpoints have hostile names."""
    usage = make_usage(dimensions=("project",), counters=("records",))
    for number, key in enumerate(KEYS):
        record(usage, "acme", key, f"/{MARK}-{number}-endpoint", f"{MARK}-{number}-project", calls_of(number))
    assert usage.flush()
    return usage


@BY_VIEW
def test_every_key_viewer_sees_itself_alone(household: Usage, view: AnyView) -> None:
    group = "?group=endpoint" if view.name in ("by-group", "series") else ""
    shown = HOSTS[4].make(household, auth=lambda environ: Viewer.key("acme", KEYS[int(environ["HTTP_X_NUMBER"])]))
    takes_a_key = any(parameter.name == "key_id" for parameter in view.parameters)
    for number, key in enumerate(KEYS):
        for key_id in ("", "&key_id=key_1", "&key_id=acme") if takes_a_key else ("",):
            reply = Api(HOSTS[4], shown).get(f"{view.path}{group or '?_'}{key_id}", x_number=str(number))
            assert reply.status == 200, reply.body
            own = not key_id or key_member(key) == key_id.removeprefix("&key_id=")
            assert total(view, reply.json) == (calls_of(number) if own else 0), (number, key_id)
            assert marks(reply.body) <= {number}


def test_endpoints_with_hostile_paths_do_not_mix(make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(dimensions=("project",), counters=("records",))
    for number, endpoint in enumerate(ENDPOINTS):
        record(usage, "acme", "key_1", endpoint, "(none)", calls_of(number))
    assert usage.flush()
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=lambda _: Viewer.organization("acme")))
    wanted = {endpoint_member("GET", endpoint): calls_of(number) for number, endpoint in enumerate(ENDPOINTS)}
    assert len(wanted) == len(ENDPOINTS)
    summary, details = api.get("/summary").json, api.get("/").json
    listed = api.get("/endpoints").json["results"]
    assert {row["endpoint"]: row["calls"] for row in summary["by_endpoint"]} == wanted
    assert {row["endpoint"]: row["requests"] for row in details["endpoints"]} == wanted
    assert {row["endpoint"]: row["total_requests"] for row in listed} == wanted
    assert {row["endpoint"]: row["num_records"] for row in listed} == wanted
    assert api.get("/by-key").json["keys"][0]["endpoint_distribution"] == wanted
    for row in details["endpoints"]:
        assert row["latency_ms"]["p50"] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("measure", ["calls", "bytes", "latency_ms", "p95", "c.records"])
@pytest.mark.parametrize("group", ["endpoint", "key", "status", "method", "project"])
def test_no_group_and_no_measure_shows_anybody_else(crowd: Usage, group: str, measure: str) -> None:
    make = HOSTS[4].make
    for number in (NAMES.index("Acme"), NAMES.index("*"), NAMES.index("acme}"), NAMES.index("a*")):
        for api in (
            Api(HOSTS[4], make(crowd, auth=KeyAuth(crowd.keys)), secret(number)),
            Api(HOSTS[4], make(crowd, auth=KeyAuth(crowd.keys, sees="key")), secret(number)),
            Api(HOSTS[4], make(crowd, auth=lambda _, org=NAMES[number]: Viewer.organization(org))),
        ):
            reply = api.get(f"/series?group={group}&measure={measure}&limit=50&granularity=day")
            assert marks(reply.body) <= {number}
            if reply.status == 200:
                assert [row["name"] for row in reply.json["series"]] != []
            if (reply.status, measure) == (200, "calls"):
                assert total(SERIES, reply.json) == sum(row["total"] for row in reply.json["series"]) == calls_of(number)
            assert reply.status == 200 or reply.code == "unsupported_measure"


def test_the_endpoint_of_somebody_else_is_one_without_calls(crowd: Usage) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), secret(1))
    of_another = api.get(f"/series?endpoint={quote(f'GET /{MARK}-0-endpoint')}&group=key")
    assert total(SERIES, of_another.json) == 0
    assert of_another.json["series"] == []
    assert total(SERIES, api.get(f"/series?endpoint={quote(f'GET /{MARK}-1-endpoint')}&group=key").json) == calls_of(1)


def test_hostile_names_do_not_reach_the_headers(crowd: Usage) -> None:
    for number in range(len(NAMES)):
        api = Api(HOSTS[0], HOSTS[0].make(crowd, auth=KeyAuth(crowd.keys)), secret(number))
        for query in ("", "?format=csv"):
            reply = api.get(f"/by-group{query}")
            assert "x-evil" not in reply.headers
            assert all("\n" not in value for value in reply.headers.values())


def test_secrets_are_never_shown(crowd: Usage) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(crowd, auth=KeyAuth(crowd.keys)), "sk_0")
    for path in [*(view.path for view in VIEWS), "/openapi.json", "/nothing", "/?limit=0"]:
        assert b"sk_0" not in api.get(path).body
