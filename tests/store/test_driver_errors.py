"""One table says what an error of redis-py means to the writer, and what a person can do about it."""

from __future__ import annotations

import pytest
import redis.sentinel
from redis import exceptions as driver
from redis.sentinel import MasterNotFoundError

from usage_middleware.errors import UsageUnavailable
from usage_middleware.store import driver_errors
from usage_middleware.store.driver_errors import effect, effect_of_reply, guard

NOT_NOW = [
    driver.ConnectionError("x"),
    driver.TimeoutError("x"),
    driver.BusyLoadingError("x"),
    driver.AuthenticationError("x"),
    driver.MaxConnectionsError("x"),
    driver.ReadOnlyError("x"),
    driver.NoPermissionError("x"),
    driver.OutOfMemoryError("x"),
    driver.ClusterDownError("x"),
    driver.MasterDownError("x"),
    driver.TryAgainError("x"),
    driver.SlotNotCoveredError("x"),
    driver.RedisClusterException("Redis Cluster cannot be connected"),
    driver.ResponseError("BUSY a script"),
    driver.ResponseError("MISCONF disk"),
    driver.ResponseError("NOREPLICAS few"),
    driver.ResponseError("ERR unknown command 'ZMSCORE'"),
    driver.MovedError("1 127.0.0.1:7000"),
    MasterNotFoundError("x"),
    ConnectionResetError("x"),
    UsageUnavailable("x"),
]
MISTAKES = [
    driver.ResponseError("WRONGTYPE x"),
    driver.ResponseError("ERR x"),
    driver.NoScriptError("x"),
    driver.DataError("x"),
    driver.CrossSlotTransactionError("x"),
    ValueError("x"),
]


@pytest.mark.parametrize("error", NOT_NOW, ids=repr)
def test_what_may_succeed_later(error: Exception) -> None:
    with pytest.raises(UsageUnavailable), guard():
        raise error


@pytest.mark.parametrize("error", MISTAKES, ids=repr)
def test_mistakes_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), guard():
        raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (driver.BusyLoadingError("x"), "away"),
        (driver.AuthenticationError("x"), "away"),
        (driver.OutOfMemoryError("x"), "away"),
        (driver.ReadOnlyError("x"), "away"),
        (driver.MasterDownError("x"), "away"),
        (driver.ResponseError("ERR Error running script: -MISCONF disk"), "away"),
        (driver.NoPermissionError("x"), "later"),
        (driver.MovedError("1 127.0.0.1:7000"), "later"),
        (driver.ResponseError("Script attempted to access a non local key"), "later"),
        (driver.ClusterError("x"), "later"),
        (driver.RedisClusterException("x"), "later"),
        (driver.ResponseError("ERR x"), "fault"),
        (driver.ConnectionError("x"), "silent"),
        (driver.TimeoutError("x"), "silent"),
        (MasterNotFoundError("x"), "silent"),
        (driver.DataError("x"), "silent"),
        (ConnectionResetError("x"), "silent"),
        (UsageUnavailable("x"), "silent"),
    ],
    ids=repr,
)
def test_what_an_error_means_to_the_writer(error: Exception, expected: str) -> None:
    assert effect(error) == expected


def test_what_a_refusal_of_the_script_means_to_the_writer() -> None:
    assert effect_of_reply("OOM command not allowed") == "away"
    assert effect_of_reply("no permissions to access a key") == "later"
    assert effect_of_reply("ERR x") == "later"


def test_an_error_of_the_same_name_is_not_redis_own() -> None:
    mistake = type("TimeoutError", (Exception,), {})("x")
    with pytest.raises(type(mistake)), guard():
        raise mistake


def test_every_type_of_the_table_exists() -> None:
    known = {**vars(driver), **vars(redis.sentinel), "OSError": OSError}
    assert not [name for name in driver_errors._BY_TYPE if not isinstance(known.get(name), type)]
