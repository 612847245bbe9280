"""A key store of the application's own: what is refused before it is used, and how its failures are named."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import record_call, there
from tests.test_given_keys import SECRET, Table
from usage_middleware import KeyInfo
from usage_middleware.credentials import credential_digest
from usage_middleware.errors import ConfigurationError, KeyStoreError
from usage_middleware.report.health import health
from usage_middleware.store.keys import Owner
from usage_middleware.store.own_keys import OwnKeys, require_directory

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]


class AsyncResolve(Table):
    async def resolve(self, digests: Collection[bytes]) -> Any:  # type: ignore[override]
        return {}


class AsyncList(Table):
    async def list(self, org: str, *, after: Any = None, limit: Any = None, include_revoked: bool = False) -> Any:  # type: ignore[override]
        return []


class NoLimit(Table):
    def list(self, org: str, include_revoked: bool = False) -> Any:  # type: ignore[override]
        return []


class PositionalOnly(Table):
    def get(self, org: str) -> Any:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (AsyncResolve, "keys: resolve must be a plain method"),
        (AsyncList, "keys: list must be a plain method"),
        (
            NoLimit,
            r"keys: list is called as list\(str, after=, limit=, include_revoked=\), but takes .*argument 'after'",
        ),
        (PositionalOnly, r"keys: get is called as get\(str, str\), but takes \(org: .*too many positional arguments"),
    ],
)
def test_a_store_of_another_shape_is_refused(make_usage: MakeUsage, store: type[Table], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_usage(keys=store("acme", "key_1"))


class AsyncFind(Table):
    async def find(self, secret: str) -> KeyInfo | None:  # type: ignore[override]
        return self.key if secret == SECRET else None


def test_find_may_be_async() -> None:
    require_directory(AsyncFind("acme", "key_1"))


class Answering(Table):
    """Answers `resolve` and `get_many` as a test says."""

    def __init__(self, answer: Callable[[Collection[Any]], Any]) -> None:
        super().__init__("acme", "key_1")
        self.answer = answer

    def resolve(self, digests: Collection[bytes]) -> Any:
        return self.answer(digests)

    def get_many(self, org: str, key_ids: Collection[str]) -> Any:
        return self.answer(key_ids)


def failing(_: object) -> Any:
    raise ConnectionError("no route to database")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failing, "key store failed: resolve raised ConnectionError: no route to database"),
        (list, "key store failed: resolve raised TypeError: it must return a dict from digest to .*, not list"),
        (lambda digests: dict.fromkeys(digests, "acme"), "digest's answer must be .*, not str"),
        (lambda digests: dict.fromkeys(digests, ("acme", 7, True)), r"digest's answer must be .*, not \(str, int, bool\)"),
        (lambda digests: dict.fromkeys(digests, ("acme", "key_1")), r"not \(str, str\)"),
    ],
)
def test_its_failures_are_named_as_its_own(
    make_usage: MakeUsage, caplog: pytest.LogCaptureFixture, answer: Callable[[Collection[Any]], Any], said: str
) -> None:
    caplog.set_level(logging.WARNING)
    store = Answering(answer)
    usage = make_usage(keys=store)
    record_call(usage.recorder, credential_digest(SECRET))
    record_call(usage.recorder, ("globex", "web"))
    assert not usage.flush()
    stats = usage.recorder.stats()
    assert (stats.state, stats.backlog_calls) == ("ok", 1)
    assert re.search(said, stats.key_store_error)
    assert "the application's own key store failed" in caplog.text
    assert "Redis" not in caplog.text
    (warned,) = [one for one in health(usage.reader).warnings if one.code == "key_store"]
    assert "key store failed: resolve raised" in warned.message
    store.answer = lambda digests: dict.fromkeys(digests, ("acme", "key_1", True))
    assert usage.flush()
    assert usage.recorder.stats().key_store_error == ""
    assert usage.reader.summary(org="acme").total_calls == 1


def test_what_get_many_returns_is_checked() -> None:
    with pytest.raises(KeyStoreError, match="get_many raised TypeError: it must return a dict from id to KeyInfo, not list"):
        OwnKeys(Answering(list), lambda _: {}).get_many("acme", ["key_1"])


def test_when_a_key_was_revoked_may_be_told(make_usage: MakeUsage) -> None:
    answers: list[Any] = [("acme", "key_1", True, 5.0), ("acme", "key_1", True, None), ("acme", "key_1", True)]
    for answer, revoked_at in zip(answers, (5.0, None, None), strict=True):
        store = OwnKeys(Answering(lambda digests, answer=answer: dict.fromkeys(digests, answer)), lambda _: {})  # type: ignore[misc]
        assert store.resolve([b"d"]) == {b"d": Owner("acme", "key_1", True, revoked_at)}


def test_unknown_keys_count_as_with_the_directory_in_redis(make_usage: MakeUsage) -> None:
    with_own, with_ours = make_usage(keys=Table("acme", "key_1")), make_usage()
    names = []
    for usage in (with_own, with_ours):
        record_call(usage.recorder, credential_digest("sk_unknown"))
        record_call(usage.recorder, credential_digest("sk_refused"), status=401)
        assert usage.flush()
        names.append({key.key_id: key.request_count for key in there(usage.reader.by_key(org="default", period="24h").keys)})
    (name, anonymous) = sorted(names[0], reverse=True)
    assert (name[:4], anonymous) == ("key_", "(anonymous)")
    assert names == [{name: 1, anonymous: 1}, {name: 2, anonymous: 2}]
