"""One behaviour in every shell: what is counted, once, and what reaches the client as if we were not there."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest

from tests.capture.recording import Broken, Recording, Usage
from tests.capture.shells import ASGI_SHELLS, SHELLS, WSGI_SHELLS, Answer, Ask, Boom, nothing
from usage_middleware.capture.call import Call, track
from usage_middleware.capture.identity import Caller
from usage_middleware.credentials import caller_digest, credential_digest
from usage_middleware.errors import ConfigurationError, UndeclaredName
from usage_middleware.events import CallEvent, RawCall

NOBODY = ("default", "(anonymous)")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Any:
    return SHELLS[request.param]


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def ask(shell: Any, usage: Usage) -> Ask:
    found: Ask = shell(usage)
    return found


def test_an_ordinary_call(ask: Ask, usage: Usage) -> None:
    assert ask("GET", "/items/5") == Answer(200, b"hello")
    assert usage.only == CallEvent(NOBODY, "GET /items/{id}", ("(none)", "home"), 200, 0, 5, (0,))


def test_each_request_is_one_call(ask: Ask, usage: Usage) -> None:
    for number in range(5):
        ask("POST" if number % 2 else "GET", f"/items/{number}")
    assert usage.labels == ["GET /items/{id}", "POST /items/{id}"] * 2 + ["GET /items/{id}"]


def test_latency_ends_with_the_last_byte_of_a_stream(ask: Ask, usage: Usage) -> None:
    assert ask("GET", "/stream") == Answer(200, b"abcde")
    assert (usage.only.latency_us, usage.only.sent) == (750_000, 5)


def test_a_clock_that_goes_back_is_no_time(shell: Any, usage: Usage) -> None:
    shell(usage, lambda _: usage.timer.advance(-3))("GET", "/track")
    assert usage.only.latency_us == 0


def test_an_exception_is_a_500(ask: Ask, usage: Usage) -> None:
    with contextlib.suppress(Boom):  # where no server turns it into an answer
        assert ask("GET", "/boom").status == 500
    assert (usage.only.endpoint, usage.only.status) == ("GET /boom", 500)


@pytest.mark.parametrize(("code", "sent"), [(201, 2), (404, 2), (418, 2), (503, 2), (204, 0), (304, 0)])
def test_status_and_bytes(ask: Ask, usage: Usage, code: int, sent: int) -> None:
    assert ask("GET", f"/status/{code}").status == code
    assert usage.only == CallEvent(NOBODY, "GET /status/{code}", ("(none)", "home"), code, 0, sent, (0,))


def test_head_sends_no_body(ask: Ask, usage: Usage) -> None:
    ask("HEAD", "/items/5")
    assert (usage.only.endpoint, usage.only.status, usage.only.sent) == ("HEAD /items/{id}", 200, 0)


def test_a_path_that_nothing_matches(ask: Ask, usage: Usage) -> None:
    for path in ("/wp-login.php", "/items", "/%00", "/{id}"):
        assert ask("GET", path).status in (404, 200)
    assert set(usage.labels) <= {"GET (unmatched)", "GET /items/{id}"}
    assert usage.labels.count("GET (unmatched)") >= 3


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_an_unknown_method_is_other(ask: Ask, usage: Usage) -> None:
    ask("BREW", "/nowhere")
    assert usage.only.endpoint == "OTHER (unmatched)"


# --- who called


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "sk_1"},
        {"apikey": "sk_1"},
        {"authorization": "Bearer sk_1"},
        {"authorization": "bEARER   sk_1 "},
        {"x-api-key": "sk_1", "apikey": " sk_1", "authorization": "Bearer sk_1"},
        {"x-api-key": "", "apikey": "sk_1"},
        {"x-api-key": "  ", "authorization": "Bearer sk_1"},
    ],
)
def test_the_key_in_the_headers_is_hashed(ask: Ask, usage: Usage, headers: dict[str, str]) -> None:
    ask("GET", "/items/5", headers)
    assert usage.only.caller == credential_digest("sk_1")


def test_every_key_in_the_headers_is_hashed(ask: Ask, usage: Usage) -> None:
    ask("GET", "/items/5", {"authorization": "Bearer sk_3", "apikey": "sk_2", "x-api-key": "sk_1"})
    assert usage.only.caller == caller_digest(["sk_1", "sk_2", "sk_3"])


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": ""}, {"authorization": "Basic dTpw"}, {"authorization": "Bearer "}, {"authorization": ""}]
)
def test_no_key_in_the_headers(ask: Ask, usage: Usage, headers: dict[str, str]) -> None:
    ask("GET", "/items/5", headers)
    assert usage.only.caller == NOBODY


@pytest.mark.parametrize("secret", ["k" * 10_000, "cl\xe9", "a b", "(other)", "\x7f"])
def test_any_key_is_just_hashed(ask: Ask, usage: Usage, secret: str) -> None:
    ask("GET", "/items/5", {"x-api-key": secret})
    assert usage.only.caller == credential_digest(secret)


def test_identify_says_who(shell: Any) -> None:
    usage = Usage(identify=lambda request: Caller("acme", request.headers["X-Tenant-Key"]))
    shell(usage)("GET", "/items/5", {"x-tenant-key": "key_7", "x-api-key": "sk_1"})
    assert usage.only.caller == ("acme", "key_7")


def test_identify_gets_a_small_request(shell: Any) -> None:
    got: list[Any] = []
    usage = Usage(identify=got.append)
    shell(usage)("POST", "/items/5", {"X-One": "1"})
    request = got[0]
    assert (request.method, request.path, dict(request.headers)["x-one"]) == ("POST", "/items/5", "1")
    assert request.headers.get("X-ONE") == "1"
    assert request.headers.get("x-two") is None
    assert hasattr(request, "scope") or hasattr(request, "environ")


def test_identify_none_is_nobody_whatever_the_headers_say(shell: Any) -> None:
    usage = Usage(identify=lambda request: None)
    shell(usage)("GET", "/items/5", {"x-api-key": "sk_1"})
    assert usage.only.caller == NOBODY


def test_identify_with_a_credential(shell: Any) -> None:
    usage = Usage(identify=lambda request: Caller(credential=request.headers["x-secret"]))
    shell(usage)("GET", "/items/5", {"x-secret": "sk_9"})
    assert usage.only.caller == credential_digest("sk_9")


def test_identify_runs_after_the_application(shell: Any) -> None:
    order: list[str] = []
    usage = Usage(identify=lambda request: order.append("identify"))
    shell(usage, lambda _: order.append("handler"))("GET", "/track")
    assert order == ["handler", "identify"]


@pytest.mark.parametrize("answer", ["acme", 7, ("acme", "key_7"), object()])
def test_identify_that_answers_something_else(shell: Any, answer: Any) -> None:
    usage = Usage(identify=lambda request: answer)
    assert shell(usage)("GET", "/items/5").body == b"hello"
    assert [seen.caller for seen in usage.recording.seen] == [NOBODY]
    assert usage.recording.reasons == {"identify raised": 1}


def test_the_handler_wins(shell: Any) -> None:
    usage = Usage(identify=lambda request: Caller("acme", "key_7"))
    ask = shell(usage, lambda request: track(request).identify(org="globex", key="key_8"))
    ask("GET", "/track", {"x-api-key": "sk_1"})
    assert usage.only.caller == ("globex", "key_8")


@pytest.mark.parametrize(
    ("caller", "member"),
    [
        (Caller("acme"), ("acme", "(anonymous)")),
        (Caller(key="key_7"), ("default", "key_7")),
        (Caller("", ""), ("default", "(none)")),
        (Caller(7, 8), ("7", "8")),
        (Caller("*", "(other)"), ("%2A", "%28other)")),
        (Caller(credential="sk_1"), credential_digest("sk_1")),
    ],
)
def test_any_caller(shell: Any, usage: Usage, caller: Caller, member: Any) -> None:
    shell(usage, lambda request: track(request).identify(caller))("GET", "/track")
    assert usage.only.caller == member


# --- tags and counters


def test_tags_and_counters(shell: Any, usage: Usage) -> None:
    def act(request: Any) -> None:
        track(request).tag(project="search").count(records=3).identify(org="acme", key="key_7")
        track(request).count(records=4)

    shell(usage, act)("GET", "/track")
    assert usage.only == CallEvent(("acme", "key_7"), "GET /track", ("search", "home"), 200, 0, 2, (7,))


@pytest.mark.parametrize(
    ("value", "member"),
    [("", "home"), (None, "home"), ("(none)", "%28none)"), (7, "7"), ("\ud800", "\\ud800~4208783e927d0d68"), (True, "True")],
)
def test_any_tag(shell: Any, usage: Usage, value: object, member: str) -> None:
    shell(usage, lambda request: track(request).tag(region="x", project="y").tag(region=value))("GET", "/track")
    assert usage.only.tags == ("y", member)


def test_a_long_tag_is_shortened(shell: Any, usage: Usage) -> None:
    shell(usage, lambda request: track(request).tag(region="x" * 10_000))("GET", "/track")
    assert len(usage.only.tags[1]) <= 128


@pytest.mark.parametrize("act", [{"tag": {"colour": "red"}}, {"count": {"sheep": 1}}])
def test_an_undeclared_name_in_production(
    shell: Any, usage: Usage, act: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ((action, names),) = act.items()
    ask = shell(usage, lambda request: getattr(track(request), action)(**names).tag(project="p"))
    assert ask("GET", "/track") == Answer(200, b"ok")
    ask("GET", "/track")
    assert [(seen.tags, seen.counts) for seen in usage.recording.seen] == [(("p", "home"), (0,))] * 2
    assert usage.recording.reasons == {f"{action} refused": 2}
    assert caplog.text.count("is not declared") == 1


@pytest.mark.parametrize("act", [{"tag": {"colour": "red"}}, {"count": {"sheep": 1}}])
def test_an_undeclared_name_in_development(shell: Any, act: dict[str, Any]) -> None:
    ((action, names),) = act.items()
    raised: list[Exception] = []

    def handler(request: Any) -> None:
        try:
            getattr(track(request), action)(**names)
        except UndeclaredName as error:
            raised.append(error)

    usage = Usage(strict=True)
    shell(usage, handler)("GET", "/track")
    assert "is not declared; Usage(" in str(raised[0])
    assert usage.only.status == 200


@pytest.mark.parametrize("number", [True, False, -1, 1.0, "7", None, 10**12 + 1, 2**70])
def test_a_count_that_is_none(shell: Any, usage: Usage, number: Any) -> None:
    shell(usage, lambda request: track(request).count(records=number).count(records=2))("GET", "/track")
    assert [seen.counts for seen in usage.recording.seen] == [(2,)]
    assert usage.recording.reasons == {"count refused": 1}


def test_the_greatest_count(shell: Any, usage: Usage) -> None:
    shell(usage, lambda request: track(request).count(records=10**12).count(records=0).count(records=1))("GET", "/track")
    assert [seen.counts for seen in usage.recording.seen] == [(10**12,)]
    assert usage.recording.reasons == {"count refused": 1}


def test_a_count_that_is_none_in_development(shell: Any) -> None:
    raised: list[Exception] = []

    def handler(request: Any) -> None:
        try:
            track(request).count(records=-1)
        except ConfigurationError as error:
            raised.append(error)

    shell(Usage(strict=True), handler)("GET", "/track")
    assert len(raised) == 1


# --- what is not counted


@pytest.mark.parametrize(
    ("exclude", "counted"),
    [
        ("/items/5", False),
        (["/other", "/items/5"], False),
        ("/items/*", False),
        ("/items*", False),
        ("/*", False),
        ("/items", True),
        ("/items/5/", True),
        ("/items/55*", True),
        ((), True),
        (None, True),
        (lambda request: request.path == "/items/5", False),
        (lambda request: request.method == "POST", True),
    ],
)
def test_exclude(shell: Any, exclude: Any, counted: bool) -> None:
    usage = Usage(exclude=exclude)
    assert shell(usage)("GET", "/items/5") == Answer(200, b"hello")
    assert len(usage.recording.seen) == counted
    assert not usage.recording.reasons


def test_track_of_an_excluded_request_does_nothing(shell: Any) -> None:
    usage = Usage(exclude="/track", strict=True)
    assert shell(usage, lambda request: track(request).tag(colour="red").count(sheep=1))("GET", "/track").status == 200
    assert usage.recording.seen == []


def test_a_preflight_is_not_counted(ask: Ask, usage: Usage) -> None:
    ask("OPTIONS", "/items/5", {"origin": "https://example.org", "access-control-request-method": "POST"})
    assert usage.recording.seen == []
    ask("OPTIONS", "/nowhere", {"origin": "https://example.org"})
    ask("GET", "/items/5", {"origin": "https://example.org", "access-control-request-method": "POST"})
    assert usage.labels == ["OPTIONS (unmatched)", "GET /items/{id}"]


@pytest.mark.parametrize(("shown", "value"), [("authorization", "Bearer sk_1"), ("x-api-key", "sk_1"), ("cookie", "a=1")])
def test_a_preflight_that_shows_who_asks_is_counted(ask: Ask, usage: Usage, shown: str, value: str) -> None:
    """No browser sends one: it is a client of an application that answers OPTIONS like GET, and would not be billed."""
    ask("OPTIONS", "/items/5", {"origin": "https://a.org", "access-control-request-method": "GET", shown: value})
    assert usage.only.caller == (NOBODY if shown == "cookie" else credential_digest("sk_1"))


def test_a_request_that_is_marked_at_its_end_is_not_counted(shell: Any, usage: Usage) -> None:
    def act(request: Any) -> None:
        notes = request if isinstance(request, dict) else getattr(request, "scope", None) or request.environ
        notes["usage.exclude"] = True

    shell(usage, act)("GET", "/track")
    assert usage.recording.seen == []
    assert not usage.recording.reasons


# --- nothing of ours reaches the host


@pytest.mark.parametrize("option", ["identify", "exclude"])
def test_a_callable_that_raises(shell: Any, option: str) -> None:
    def broken(request: Any) -> Any:
        raise RuntimeError("on purpose")

    options: dict[str, Any] = {option: broken}
    usage = Usage(**options)
    assert shell(usage)("GET", "/items/5") == Answer(200, b"hello")
    assert usage.labels == ["GET /items/{id}"]
    assert usage.recording.reasons == {f"{option} raised": 1}


def test_a_recorder_that_raises(shell: Any) -> None:
    usage = Usage(Broken(), identify=lambda request: 1 / 0)
    assert shell(usage)("GET", "/items/5") == Answer(200, b"hello")
    assert shell(usage)("GET", "/stream").body == b"abcde"


def test_a_route_that_is_no_text(shell: Any, usage: Usage) -> None:
    def act(request: Any) -> None:
        notes = request if isinstance(request, dict) else getattr(request, "scope", None) or request.environ
        notes["usage.route"] = ["/x"]

    assert shell(usage, act)("GET", "/track").status == 200
    assert [seen.status for seen in usage.recording.seen] == [200]
    assert sum(usage.recording.reasons.values()) == 1


def test_the_shells_are_those_of_the_house() -> None:
    assert set(SHELLS) == {"starlette", "starlette-outside", "fastapi", "asgi", "flask", "wsgi"}
    assert set(ASGI_SHELLS).isdisjoint(WSGI_SHELLS)
    assert track({}) is track(object()) is track(None)
    nothing(None)


def test_each_middleware_sets_every_field_of_a_call(shell: Any, usage: Usage) -> None:
    found: list[dict[str, Any]] = []

    def act(request: Any) -> None:
        call = track(request)
        found.append({name: getattr(call, name) for name in Call.__slots__})

    begun = {"method": "GET", "path": "/track", "status": 0, "sent": 0, "done": False, "started": usage.timer()}
    shell(usage, act)("GET", "/track")
    assert isinstance(found[0].pop("notes"), dict)
    assert found == [begun | {"capture": usage.capture, "caller": None, "tags": None, "counts": None}]


# --- what waits to be counted


class Keeping(Recording):
    """A recorder that has counted nothing yet."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[RawCall] = []

    def take(self, raw: RawCall) -> None:
        self.waiting.append(raw)


class Thing:
    """What an application may leave in its request."""


def test_what_waits_keeps_no_request_alive(shell: Any) -> None:
    """What an application left in a scope or environ, such as a session of its database, must go when the request does."""
    recording = Keeping()
    left: list[weakref.ref[Thing]] = []

    def act(request: Any) -> None:
        thing = Thing()
        left.append(weakref.ref(thing))
        notes = request if isinstance(request, dict) else getattr(request, "scope", None) or request.environ
        notes["thing"] = thing
        track(request).tag(project="search").count(records=1)

    shell(Usage(recording), act)("GET", "/track", {"x-api-key": "sk_1"})
    gc.collect()
    assert (len(left), left[0]()) == (1, None)
    (raw,) = recording.waiting
    event = recording.normalizer.event(raw)
    assert (event.caller, event.endpoint, event.tags) == (credential_digest("sk_1"), "GET /track", ("search", "home"))
