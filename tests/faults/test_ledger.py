"""The comparison that all of these tests rest on sees one call more and one call less, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.ledger import Call, Ledger, assert_equal
from tests.support import ServerProcess, record_call
from usage_middleware import Usage

CALLS = (
    Call("acme", "key_1", "GET /a:b/{id}", 200),
    Call("acme", "calls", "GET (unmatched)", 404),
    Call("a:b", "k:1", "POST /a", 500),
)


def counted(make_usage: Callable[..., Usage]) -> Ledger:
    usage, ledger = make_usage(), Ledger()
    for call in CALLS:
        record_call(usage.recorder, (call.org, call.key), call.endpoint, (), call.status, 1000, 5, ())
        ledger.add(call)
    assert usage.flush()
    return ledger


def test_what_was_counted_is_equal(make_usage: Callable[..., Usage], server: ServerProcess, namespace: str) -> None:
    ledger = counted(make_usage)
    with server.client() as client:
        assert_equal(client, namespace, ledger)
        for call in CALLS:
            ledger.add(call)
            with pytest.raises(AssertionError, match="answered 2, stored 1"):
                assert_equal(client, namespace, ledger)
            ledger.add(call, -1)
        ledger.drop("acme", 1)
        with pytest.raises(AssertionError, match="dropped: answered 1, stored 0"):
            assert_equal(client, namespace, ledger)


def test_every_place_is_compared(make_usage: Callable[..., Usage], server: ServerProcess, namespace: str) -> None:
    ledger = counted(make_usage)
    with server.client() as client:
        for name in client.keys(f"{namespace}:*:series:*") + client.keys(f"{namespace}:*:board:*"):
            if b"latency_us" in name:
                continue
            where = _one_more(client, name)
            with pytest.raises(AssertionError, match="1 of"):
                assert_equal(client, namespace, ledger)
            _one_more(client, name, where, -1)
        assert_equal(client, namespace, ledger)


def _one_more(client: Any, name: bytes, where: bytes | None = None, amount: int = 1) -> bytes:
    if client.type(name) == b"hash":
        where = where or next(field for field in client.hkeys(name) if field.endswith(b" calls"))
        client.hincrby(name, where, amount)
    else:
        where = where or next(member for member in client.zrange(name, 0, -1) if not member.startswith(b"latency_us"))
        client.zincrby(name, amount, where)
    return where
