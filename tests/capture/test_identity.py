"""`Caller`, the small request, the paths of `exclude`, and what `track` takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.capture.recording import Recording, Usage
from tests.capture.shells import environ
from tests.support import raw_call
from usage_middleware.capture.call import NOWHERE, Call, track
from usage_middleware.capture.capture import Capture, Exclusion
from usage_middleware.capture.identity import Caller
from usage_middleware.capture.wsgi import WSGIUsageMiddleware
from usage_middleware.errors import ConfigurationError
from usage_middleware.headers import Headers
from usage_middleware.options import Settings
from usage_middleware.record.normalizer import Normalizer
from usage_middleware.seen_request import EnvironHeaders


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
        Capture(Recording(), Settings(), identify="key")  # type: ignore[arg-type]


class Holder:
    """A request as some framework makes it."""

    def __init__(self, **notes: Any) -> None:
        self.__dict__.update(notes)


def being_answered(usage: Usage) -> dict[str, Any]:
    """The environ of a request whose response nobody has closed yet."""
    asked = environ()
    WSGIUsageMiddleware(lambda environ, start_response: [], usage)(asked, lambda *started: len)
    return asked


@pytest.mark.parametrize("name", ["scope", "environ", "env"])
def test_track_takes_any_frameworks_request(name: str) -> None:
    notes = being_answered(Usage())
    call: Call = notes["usage.call"]
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
    assert being_answered(usage)["usage.call"].identify(*given_, **named).caller is None
    assert usage.recording.reasons == {"identify refused": 1}
    with pytest.raises(ConfigurationError, match="identify"):
        being_answered(Usage(strict=True))["usage.call"].identify(*given_, **named)


def test_names_are_logged_a_bounded_number_of_times(caplog: pytest.LogCaptureFixture) -> None:
    usage = Usage()
    call = being_answered(usage)["usage.call"]
    for number in range(500):
        call.tag(**{f"t{number}": "x"})
    assert usage.recording.reasons == {"tag refused": 500}
    assert 0 < caplog.text.count("is not declared") < 100


def test_labels_are_cached_within_bounds() -> None:
    normalizer = Normalizer(Settings())
    for number in range(6000):
        assert normalizer.event(raw_call(normalizer, endpoint=f"GET /{number}")).endpoint == f"GET /{number}"
    first, second = (normalizer.event(raw_call(normalizer, endpoint="GET /1")) for _ in range(2))
    assert first.endpoint is second.endpoint
    assert len(normalizer._labels) <= 4096
