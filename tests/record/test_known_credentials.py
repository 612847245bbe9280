"""What is decided early, before calls take memory, is what would be decided late, when they are delivered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support import START, Clock
from usage_middleware.credentials import digests_in
from usage_middleware.events import ANONYMOUS_CALLER, UNKNOWN_CALLER, CallerId, CallKey
from usage_middleware.record.known_credentials import MOST_KEYS, MOST_UNKNOWN, KnownCredentials, decisive
from usage_middleware.store.keys import Owner

MINUTE = int(START) // 60 * 60
DIGESTS = [bytes([number]) * 32 for number in range(6)]
OWNERS = st.one_of(
    st.builds(lambda org, at: Owner(org, "key", True, at), st.sampled_from(["acme", "globex"]), st.sampled_from([None, 1.0])),
    st.sampled_from([MINUTE - 1.0, MINUTE + 59.0, MINUTE + 60.0, MINUTE + 300.0]).map(
        lambda at: Owner("acme", "key", True, at)
    ),
    st.sampled_from([Owner("default", "key_ab", False), Owner(*UNKNOWN_CALLER, False)]),
)
KEYS = st.builds(
    lambda shown, endpoint, status: CallKey(MINUTE, b"".join(shown), endpoint, (), status),
    st.lists(st.sampled_from(DIGESTS), min_size=1, max_size=6, unique=True),
    st.sampled_from(["GET /a", "GET (unmatched)", "GET (unknown)"]),
    st.sampled_from([200, 302, 400, 401, 404, 409, 500]),
)


def delivered(key: CallKey, owners: dict[bytes, Owner]) -> tuple[tuple[str, str], bool]:
    """Whom calls count for in the end, and whether keys of two owners were shown."""
    if not isinstance(key.caller, bytes):
        return key.caller, False
    revoked_at = {digest: owner.revoked_at for digest, owner in owners.items() if owner.known}
    found = decisive(key, digests_in(key.caller), revoked_at)
    names = [owners[digest][:2] for digest in found]
    return (names[0] if names else ANONYMOUS_CALLER), len(set(names)) > 1


@given(KEYS, st.fixed_dictionaries(dict.fromkeys(DIGESTS, OWNERS)))
def test_early_is_as_late(key: CallKey, owners: dict[bytes, Owner]) -> None:
    known = KnownCredentials(Clock())
    assert known.caller_of(key) is None
    known.learn(owners, {"key_ab": True})
    caller = known.caller_of(key)
    assert caller is not None
    assert delivered(replace(key, caller=caller), owners) == delivered(key, owners)


@given(KEYS, st.fixed_dictionaries(dict.fromkeys(DIGESTS, OWNERS)))
def test_one_active_key_is_who_called_whatever_else_is_shown(key: CallKey, owners: dict[bytes, Owner]) -> None:
    assert isinstance(key.caller, bytes)
    shown = [owners[digest] for digest in digests_in(key.caller)]
    active = {owner[:2] for owner in shown if owner.known and (owner.revoked_at or MINUTE + 60) >= MINUTE + 60}
    (org, name), is_conflict = delivered(key, owners)
    assert is_conflict == (len(active) > 1)
    if active:
        assert (org, name) in active
    elif key.status < 400:
        assert (org, name) not in {owner[:2] for owner in shown if owner.known}


@given(KEYS, st.sets(st.sampled_from(DIGESTS)))
def test_as_long_as_one_credential_is_pending_all_wait(key: CallKey, learnt: set[bytes]) -> None:
    known = KnownCredentials(Clock())
    known.learn({digest: Owner("acme", "key", True) for digest in learnt}, {})
    assert isinstance(key.caller, bytes)
    shown = list(digests_in(key.caller))
    caller: CallerId | None = known.caller_of(key)
    assert caller == (key.caller if learnt.issuperset(shown) else None)
    assert known.without_pending(key) == (b"".join(digest for digest in shown if digest in learnt) or None)


def test_what_is_unknown_is_asked_again_after_a_minute() -> None:
    clock = Clock()
    known, key = KnownCredentials(clock), CallKey(MINUTE, DIGESTS[0], "GET /a", (), 200)
    known.learn({DIGESTS[0]: Owner(*UNKNOWN_CALLER, False)}, {})
    clock.advance(59)
    assert known.caller_of(key) == UNKNOWN_CALLER
    clock.advance(2)
    assert known.caller_of(key) is None


def test_what_is_remembered_is_bounded() -> None:
    known = KnownCredentials(Clock())
    for begin in range(0, MOST_KEYS + 10_000, 10_000):
        numbers = [number.to_bytes(32) for number in range(begin, begin + 10_000)]
        known.learn(dict.fromkeys(numbers, Owner("acme", "key", True)), {})
        known.learn({b"u" + number[1:]: Owner(*UNKNOWN_CALLER, False) for number in numbers}, {})
    assert (len(known._keys), len(known._unknown)) == (MOST_KEYS, MOST_UNKNOWN)
    assert known.is_key(numbers[-1])


def test_whether_an_unknown_one_has_a_row_is_remembered_where_nobody_asks_for_one() -> None:
    known, opened = KnownCredentials(Clock()), CallKey(MINUTE, DIGESTS[0], "GET /a", (), 200)
    refused = replace(opened, status=401)
    found = {DIGESTS[0]: Owner("default", "key_ab", False)}
    known.learn(found, {})
    assert (known.caller_of(refused), known.caller_of(opened)) == (ANONYMOUS_CALLER, None)
    known.learn(found, {"key_ab": True})
    known.learn(found, {})
    assert (known.caller_of(refused), known.caller_of(opened)) == (ANONYMOUS_CALLER, DIGESTS[0])
    known.learn(found, {"key_ab": False})
    assert known.caller_of(opened) == UNKNOWN_CALLER
