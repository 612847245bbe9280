"""Every error that Redis may answer a chunk with, word for word: none loses a call, none counts one twice."""

from __future__ import annotations

import pytest

from tests.faults.conftest import MakeWorld
from tests.faults.proxy import Loss
from tests.support import eventually, record_call

#: As servers write them; those that hold only while something else does are also brought about, in the other files.
NOT_NOW = (
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "CLUSTERDOWN The cluster is down",
    "CLUSTERDOWN Hash slot not served",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOPERM User default has no permissions to run the 'evalsha' command",
    "NOPERM No permissions to access a key",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "ERR max number of clients reached",
    "ERR unknown command 'EVALSHA', with args beginning with: ",
)
RELOAD = "NOSCRIPT No matching script. Please use EVAL."
#: What may be the chunk's own fault: after the third time it is set aside.
STRANGE = (
    "ERR Protocol error: invalid bulk length",
    "ERR Error running script (call to f_1): @user_script:1: Script killed by user with SCRIPT KILL...",
    "WHATEVER nobody has seen this before",
)


def test_an_error_once_or_twice(make_world: MakeWorld) -> None:
    world = make_world()
    for error in (*NOT_NOW, RELOAD, *STRANGE):
        world.proxy.lose(Loss.ANSWER, times=2, data=f"-{error}\r\n".encode())
        eventually(lambda: world.usage.flush() and world.proxy.is_done)
        world.traffic.go_on(10)
    world.check()
    assert world.proxy.met[Loss.ANSWER] == 2 * len((*NOT_NOW, RELOAD, *STRANGE))
    assert world.usage.recorder.stats().dropped == {}


#: Answers to a chunk that the script never gives, as of a proxy that mixes connections up.
NO_ANSWERS = (
    b"+QUEUED\r\n",
    b"$-1\r\n",
    b":1\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*1\r\n$2\r\nOK\r\n",
    b"*2\r\n$2\r\nOK\r\n$1\r\nx\r\n",
)


def test_an_answer_that_is_none(make_world: MakeWorld) -> None:
    """It says nothing about the chunk, which is sent again; the other organisations' calls go on meanwhile."""
    world = make_world()
    for data in NO_ANSWERS:
        world.proxy.lose(Loss.ANSWER, times=2, data=data)
        eventually(lambda: world.usage.flush() and world.proxy.is_done)
        world.traffic.go_on(10)
    assert world.proxy.met[Loss.ANSWER] == 2 * len(NO_ANSWERS)
    assert "flush" not in world.usage.recorder.stats().lost
    world.check()


def test_what_is_not_the_chunks_fault_is_held_however_long_it_lasts(make_world: MakeWorld) -> None:
    world = make_world()
    for error in NOT_NOW:
        world.proxy.lose(Loss.ANSWER, times=20, data=f"-{error}\r\n".encode())
        for _ in range(5):
            world.usage.flush()
        world.proxy.forgive()
        world.traffic.go_on(10)
    world.check()
    assert world.usage.recorder.stats().dropped == {}
    assert world.proxy.met[Loss.ANSWER] > 4 * len(NOT_NOW)


@pytest.mark.parametrize("error", STRANGE)
def test_what_may_be_its_own_fault_is_set_aside_and_counted_as_dropped(make_world: MakeWorld, error: str) -> None:
    world = make_world(flush_interval=60)
    with world.traffic.paused():
        while not world.usage.flush():
            pass
        world.proxy.lose(Loss.ANSWER, times=1_000, data=f"-{error}\r\n".encode())
        for _ in range(7):
            record_call(world.usage.recorder, ("acme", "key_1"), "GET /items/{item}", (), 200, 1000, 1, ())
        for _ in range(3):
            assert not world.usage.flush()
        world.proxy.forgive()
    world.ledger.drop("acme", 7)
    world.check()
