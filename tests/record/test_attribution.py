"""Whose calls they are: what one more header, an unknown key or a revoked one may and may not change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Any

import pytest

from tests.record.conftest import MakeRecorder
from tests.support import Clock, record_call, there
from usage_middleware import KeyInfo, Usage
from usage_middleware.events import RawCall
from usage_middleware.record.recorder import Recorder
from usage_middleware.report.health import health

MakeUsage = Callable[..., Usage]
Counted = Callable[..., int]
#: Bearer keys of two organisations and a revoked one.
ACME, GLOBEX, REVOKED = "sk_acme", "sk_globex", "sk_revoked"


def call(usage: Usage, *shown: tuple[str, str], status: int = 200, template: str = "/v1/items", times: int = 1) -> None:
    """Let calls with these headers finish."""
    headers = [(name.encode(), value.encode()) for name, value in shown]
    for _ in range(times):
        usage.recorder.take(RawCall(0.0, None, headers, None, "GET", template, None, status, 0.001, 10, None))


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def api_key(key: str) -> tuple[str, str]:
    return "x-api-key", key


def rows(usage: Usage, org: str) -> dict[str, int]:
    """The calls of an organisation's keys, once everything is delivered."""
    assert usage.flush()
    return {
        key.key_id: key.request_count
        for key in there(usage.reader.by_key(org=org, period="24h", include_revoked=True).keys)
        if key.request_count
    }


def put_keys(usage: Usage) -> None:
    usage.keys.put("acme", KeyInfo("key_1", "Acme"), secret=ACME)
    usage.keys.put("globex", KeyInfo("key_2", "Globex"), secret=GLOBEX)
    usage.keys.put("initech", KeyInfo("key_3", "Initech"), secret=REVOKED)
    usage.keys.revoke("initech", "key_3")


@pytest.fixture
def usage(make_usage: MakeUsage) -> Usage:
    made = make_usage()
    put_keys(made)
    return made


# A second header


def test_a_second_header_does_not_evade_the_bill(usage: Usage) -> None:
    call(usage, api_key("junk"), bearer(ACME), times=100)
    call(usage, api_key(REVOKED), bearer(ACME), times=50)
    call(usage, ("apikey", "junk"), api_key("junk 2"), bearer(ACME))
    call(usage, bearer("junk"), bearer(ACME))
    assert rows(usage, "acme") == {"key_1": 152}
    assert rows(usage, "default") == rows(usage, "initech") == {}
    assert usage.recorder.stats().conflicting == 0


def test_the_place_that_the_application_checks_is_the_only_one(make_usage: MakeUsage) -> None:
    usage = make_usage(credentials=("bearer",))
    put_keys(usage)
    call(usage, api_key(GLOBEX), bearer(ACME))
    call(usage, api_key(GLOBEX))
    assert rows(usage, "acme") == {"key_1": 1}
    assert rows(usage, "globex") == {}
    assert rows(usage, "default") == {"(anonymous)": 1}


@pytest.mark.parametrize(("places", "org"), [(None, "globex"), (("bearer", "x-api-key"), "acme")])
def test_of_two_owners_the_more_important_place_counts_and_it_is_told(
    make_usage: MakeUsage, places: tuple[str, ...] | None, org: str
) -> None:
    usage = make_usage(credentials=places)
    put_keys(usage)
    call(usage, api_key(GLOBEX), bearer(ACME), times=3)
    assert sum(rows(usage, org).values()) == 3
    assert usage.recorder.stats().conflicting == 3
    usage.flush()
    (warned,) = [one for one in health(usage.reader).warnings if one.code == "conflicting"]
    assert "3 calls" in warned.message
    assert "credentials=" in warned.message


def test_two_secrets_of_one_key_are_no_conflict(usage: Usage) -> None:
    usage.keys.put("acme", KeyInfo("key_1", "Acme"), secret="sk_new")
    call(usage, api_key("sk_new"), bearer(ACME))
    assert rows(usage, "acme") == {"key_1": 1}
    assert usage.recorder.stats().conflicting == 0


# Revoked keys


def test_a_revoked_key_has_what_was_refused_and_no_success(usage: Usage) -> None:
    for status in (200, 304, 401, 403):
        call(usage, bearer(REVOKED), status=status)
    assert rows(usage, "initech") == {"key_3": 2}
    assert rows(usage, "default") == {"(anonymous)": 2}


def test_whether_a_key_was_revoked_is_asked_of_the_minute_of_the_call(usage: Usage, clock: Clock) -> None:
    call(usage, bearer(ACME), times=5)
    clock.advance(300)
    usage.keys.revoke("acme", "key_1")
    call(usage, bearer(ACME), times=7)
    clock.advance(300)
    call(usage, bearer(ACME), times=11)
    assert rows(usage, "acme") == {"key_1": 5}
    assert rows(usage, "default") == {"(anonymous)": 18}


def test_an_unknown_key_beside_a_revoked_one_is_the_unknown_one(usage: Usage) -> None:
    call(usage, api_key(REVOKED), bearer("sk_unknown"))
    ((name, calls),) = rows(usage, "default").items()
    assert (name[:4], calls) == ("key_", 1)


# Unknown keys


def digest(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=32).digest()


@pytest.mark.parametrize(
    ("endpoint", "status", "is_named"),
    [
        ("GET /v1/items", 200, True),
        ("GET /v1/items", 302, True),
        ("GET /v1/items", 500, True),
        ("GET (unknown)", 200, True),
        *(("GET /v1/items", status, False) for status in (400, 401, 403, 404, 405, 422, 429)),
        ("GET (unmatched)", 200, False),
    ],
)
def test_a_scanner_that_makes_up_credentials_leaves_one_row(
    make_usage: MakeUsage, endpoint: str, status: int, is_named: bool
) -> None:
    usage = make_usage()
    for number in range(50):
        record_call(usage.recorder, digest(number), endpoint, (), status, 1_000, 0, ())
    found = rows(usage, "default")
    assert sum(found.values()) == 50
    assert len(found) == (50 if is_named else 1)
    assert all(name.startswith("key_") if is_named else name == "(anonymous)" for name in found)


def test_so_many_unknown_keys_have_a_row_and_the_rest_share_one(make_usage: MakeUsage, clock: Clock) -> None:
    one, two = make_usage(max_unknown_keys=10), make_usage(max_unknown_keys=10)
    for usage, numbers in ((one, range(25)), (two, range(20, 45)), (one, range(45, 60))):
        for number in numbers:
            record_call(usage.recorder, digest(number))
        assert usage.flush()
    found = rows(one, "default")
    assert len(found) == 11
    assert (found.pop("(unknown)"), set(found.values())) == (55, {1})
    for number in range(10):
        record_call(one.recorder, digest(number), "GET /again")
    again = rows(one, "default")
    assert set(again) - {"(unknown)"} == set(found), "a name keeps its place"
    clock.advance(2 * 86_400)
    for number in range(100, 105):
        record_call(two.recorder, digest(number))
    assert two.flush()
    keys = there(two.reader.by_key(org="default", period="24h").keys)
    assert sum(key.key_id.startswith("key_") and key.request_count > 0 for key in keys) == 5, "places become free"


@pytest.mark.parametrize("most", [-1, True, 1.5, "9"])
def test_how_many_unknown_keys_is_a_number(make_usage: MakeUsage, most: Any) -> None:
    from usage_middleware.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="max_unknown_keys"):
        make_usage(max_unknown_keys=most)


def test_none_has_a_row_if_none_may(make_usage: MakeUsage) -> None:
    usage = make_usage(max_unknown_keys=0)
    call(usage, bearer("one"))
    call(usage, bearer("two"))
    assert rows(usage, "default") == {"(unknown)": 2}


def test_keys_that_the_application_names_are_known(make_usage: MakeUsage) -> None:
    usage = make_usage(max_unknown_keys=1)
    for number in range(5):
        record_call(usage.recorder, ("acme", f"key_{number}"))
    assert rows(usage, "acme") == {f"key_{number}": 1 for number in range(5)}


def test_a_made_up_key_beside_a_good_one_takes_no_place(usage: Usage) -> None:
    for number in range(200):
        call(usage, api_key(f"junk {number}"), bearer(ACME))
    assert rows(usage, "acme") == {"key_1": 200}
    call(usage, bearer("sk_unknown"))
    (name,) = rows(usage, "default")
    assert name.startswith("key_")


def test_an_unknown_key_keeps_its_name_when_some_of_its_calls_are_refused(usage: Usage) -> None:
    for status in (200, 401, 200, 404, 200):
        call(usage, bearer("sk_unknown"), status=status)
        found = rows(usage, "default")
    assert sorted(found.values()) == [2, 3]
    assert "(unknown)" not in found


def test_a_key_that_is_added_later_is_known_within_a_minute(usage: Usage, clock: Clock) -> None:
    call(usage, bearer("sk_late"))
    assert rows(usage, "acme") == {}
    usage.keys.put("acme", KeyInfo("key_late", "Late"), secret="sk_late")
    clock.advance(61)
    call(usage, bearer("sk_late"))
    assert rows(usage, "acme") == {"key_late": 1}


# The organisation of nobody


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "beside others" in record.getMessage()]


def test_a_customer_called_default_is_told_once(usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    record_call(usage.recorder, ("default", "web"))
    record_call(usage.recorder, ("default", "(anonymous)"))
    assert usage.flush()
    assert not warnings(caplog), "a host without tenants"
    for _ in range(2):
        record_call(usage.recorder, ("acme", "web"))
        record_call(usage.recorder, ("default", "web"))
        assert usage.flush()
    (told,) = warnings(caplog)
    assert "strange" in told or "nobody" in told


def test_calls_of_nobody_are_no_customer(usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    call(usage)
    call(usage, bearer("junk"))
    call(usage, bearer(ACME))
    assert usage.flush()
    assert not warnings(caplog)


# In one process: what is decided before it takes memory


def add_up(recorder: Recorder) -> None:
    recorder._flusher.add_up()
    recorder._flusher.ask_who_called()


def test_what_waits_for_an_answer_is_asked_about_before_it_takes_memory(make_recorder: MakeRecorder, counted: Counted) -> None:
    asked: list[int] = []

    def resolve(digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
        asked.append(len(digests))
        return {digest(7): ("acme", "key_7", True)} if digest(7) in digests else {}

    recorder = make_recorder(resolve=resolve)
    for number in range(3_000):
        record_call(recorder, digest(number))
        if number % 64 == 0:
            add_up(recorder)
    add_up(recorder)
    assert len(recorder._aggregate._cells) < 1_100
    assert max(asked) < 1_100
    assert recorder.flush()
    assert (counted("acme"), counted("default")) == (1, 2_999)
    assert recorder.stats().dropped == {}


def test_a_directory_that_is_away_is_not_asked_all_the_time(make_recorder: MakeRecorder) -> None:
    asked: list[int] = []

    def resolve(digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
        asked.append(len(digests))
        raise RuntimeError("away")

    recorder = make_recorder(resolve=resolve)
    for number in range(2_000):
        record_call(recorder, digest(number))
        add_up(recorder)
    assert len(asked) == 1


@pytest.mark.parametrize("statuses", [(200,), (401, 404), (200, 401)])
def test_room_is_kept_for_known_callers(make_recorder: MakeRecorder, counted: Counted, statuses: tuple[int, ...]) -> None:
    """Redis and the directory are away, and strangers make up keys."""
    away = [False]

    def resolve(digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
        if away[0]:
            raise ConnectionError("away")
        return {digest(0): ("acme", "key_7", True)} if digest(0) in digests else {}

    limit = 800_000
    recorder = make_recorder(backlog_bytes=limit, resolve=resolve)
    record_call(recorder, digest(0))
    assert recorder.flush()
    away[0] = True
    sent = 0
    for number in range(1, 4_001):
        record_call(recorder, digest(number), status=statuses[number % len(statuses)])
        if number % 20 == 0:
            record_call(recorder, digest(0), f"GET /{number}")
            record_call(recorder, digest(0) + digest(number), f"GET /both/{number % 100}")
            sent += 2
        if number % 500 == 0:
            recorder._flusher.add_up()
            assert not recorder.flush()
            assert recorder.stats().backlog_bytes < limit
    away[0] = False
    assert recorder.flush()
    stats = recorder.stats()
    assert counted("acme") == 1 + sent
    assert "acme" not in stats.dropped
    assert counted("default") + stats.dropped["default"] == 4_000
