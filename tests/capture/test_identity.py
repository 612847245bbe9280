"""`Caller`, the small request, the paths of `exclude`, and what `track` takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.capture.recording import Recording, Usage
from usage_middleware.capture.call import Call
from usage_middleware.capture.capture import Capture
from usage_middleware.capture.exclude import Exclusion
from usage_middleware.capture.identity import Caller, EnvironHeaders, Headers, shown_in_headers
from usage_middleware.capture.track import NOWHERE, track
from usage_middleware.credentials import credential_digest, from_headers
from usage_middleware.errors import ConfigurationError


def test_a_callers_secret_is_nowhere() -> None:
    caller = Caller(credential="sk_live_1")
    assert "sk_live" not in repr(caller)
    assert not any("sk_live" in repr(getattr(caller, name)) for name in Caller.__slots__)
    assert caller == Caller(credential="sk_live_1") != Caller("acme")
    assert len({Caller("acme", "k"), Caller("acme", "k")}) == 1
    assert repr(Caller("acme", "k")) == "Caller(org='acme', key='k')"


def test_a_caller_is_known_or_has_a_credential() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        Caller("acme", credential="sk_1")
    assert Caller(credential="").member == Caller().member == ("default", "(anonymous)")


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_names_make_members(org: str, key: str) -> None:
    member = Caller(org, key).member
    assert isinstance(member, tuple)
    assert member[0] != "*"
    assert all(len(part.encode()) <= 128 for part in member)
    assert member[0] == "default" or not member[0].startswith("(")
    assert member[1] == "(none)" or not member[1].startswith("(")


@given(st.lists(st.tuples(st.sampled_from([b"x-api-key", b"apikey", b"authorization", b"accept"]), st.binary(max_size=12))))
def test_the_quick_scan_agrees_with_the_header_reader(raw: list[tuple[bytes, bytes]]) -> None:
    secret = from_headers(Headers(raw).get)
    expected = ("default", "(anonymous)") if secret is None else credential_digest(secret)
    assert shown_in_headers(raw) == expected


def test_headers_in_any_case() -> None:
    headers = Headers([(b"x-one", b"1"), (b"x-one", b"2"), (b"accept", b"\xe4")])
    assert (headers["X-One"], headers["ACCEPT"], headers.get("nothing"), "x-ONE" in headers) == ("1", "ä", None, True)
    assert (list(headers), len(headers)) == (["x-one", "accept"], 2)
    environ = EnvironHeaders({"HTTP_X_ONE": "1", "CONTENT_TYPE": "text/plain", "SERVER_NAME": "x"})
    assert (environ["x-one"], environ["Content-Type"], environ.get("server-name")) == ("1", "text/plain", None)
    assert dict(environ) == {"x-one": "1", "content-type": "text/plain"}
    assert len(environ) == 2


@pytest.mark.parametrize("exclude", ["health", "", ["/a", "b"], "/a*b", "*", [7], ["/**"]])
def test_an_exclude_that_is_no_path(exclude: Any) -> None:
    with pytest.raises(ConfigurationError, match="exclude"):
        Exclusion(exclude)


def test_an_identify_that_is_no_callable() -> None:
    with pytest.raises(ConfigurationError, match="identify"):
        Capture(Recording(), identify="key")  # type: ignore[arg-type]


class Holder:
    """A request as some framework makes it."""

    def __init__(self, **notes: Any) -> None:
        self.__dict__.update(notes)


@pytest.mark.parametrize("name", ["scope", "environ", "env"])
def test_track_takes_any_frameworks_request(name: str) -> None:
    capture = Usage().capture
    notes: dict[str, Any] = {}
    call = notes["usage.call"] = Call(capture, notes, "GET", "/")
    assert track(notes) is call
    assert track(Holder(**{name: notes})) is call
    assert call.tag(project="p").count(records=1).identify(org="acme") is call
    assert (call.tags, call.counts, call.caller) == ({"project": "p"}, {"records": 1}, Caller("acme"))
    assert call.identify().identify(None).caller == Caller("acme")


class Unbound:
    """Like Flask's request outside a request."""

    @property
    def scope(self) -> Any:
        raise RuntimeError("working outside of request context")


@pytest.mark.parametrize("request_", [None, 7, {}, {"usage.call": 7}, Unbound(), Holder(scope=None), Holder(scope=7)])
def test_track_elsewhere_does_nothing(request_: Any) -> None:
    assert track(request_) is NOWHERE
    assert track(request_).identify(org="x").tag(anything="y").count(whatever=-1) is NOWHERE


@pytest.mark.parametrize("arguments", [((7,), {}), ((Caller("a"),), {"org": "b"})])
def test_identify_with_something_else(arguments: tuple[Any, dict[str, Any]]) -> None:
    given_, named = arguments
    usage = Usage()
    notes: dict[str, Any] = {}
    assert Call(usage.capture, notes, "GET", "/").identify(*given_, **named).caller is None
    assert usage.recording.reasons == {"identify refused": 1}
    with pytest.raises(ConfigurationError, match="identify"):
        Call(Usage(strict=True).capture, notes, "GET", "/").identify(*given_, **named)


def test_names_are_logged_a_bounded_number_of_times(caplog: pytest.LogCaptureFixture) -> None:
    usage = Usage()
    call = Call(usage.capture, {}, "GET", "/")
    for number in range(500):
        call.tag(**{f"t{number}": "x"})
    assert usage.recording.reasons == {"tag refused": 500}
    assert 0 < caplog.text.count("is not declared") < 100


def test_labels_are_remembered_within_bounds() -> None:
    reading = Usage().capture.reading
    for number in range(6000):
        assert reading.label("GET", f"/{number}") == f"GET /{number}"
    assert reading.label("GET", "/1") is reading.label("GET", "/1")
    assert len(reading._labels) <= 4096
