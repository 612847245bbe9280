"""What a fork does, in order: parts find the connections and locks that they need already new."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from usage_middleware import fork

pytestmark = pytest.mark.slow


class Part:
    """Writes down when its turn is."""

    def __init__(self, name: str, turns: list[str], *, pauses: bool = True) -> None:
        self.name, self.turns, self.pauses = name, turns, pauses

    def before_fork(self) -> bool:
        self.turns.append(f"{self.name} pauses")
        return self.pauses

    def after_fork_in_parent(self) -> None:
        self.turns.append(f"{self.name} resumes")

    def after_fork_in_child(self) -> None:
        self.turns.append(f"{self.name} starts again")

    def end(self) -> None:
        raise AssertionError("the process goes on")

    leave = cut_off = end


@pytest.fixture
def turns() -> Iterator[list[str]]:
    turns: list[str] = []
    parts = [Part("recorder", turns), Part("busy recorder", turns, pauses=False), Part("engine", turns), Part("server", turns)]
    fork.recorders.add(parts[0])
    fork.recorders.add(parts[1])
    fork.engines.add(parts[2])
    fork.servers.add(parts[3])
    yield turns
    for part in parts[:2]:
        fork.recorders.discard(part)


@pytest.mark.slow
def test_the_parent_goes_on_where_it_paused(turns: list[str]) -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    assert sorted(turns) == ["busy recorder pauses", "recorder pauses", "recorder resumes"]
    assert turns[-1] == "recorder resumes"


@pytest.mark.slow
def test_in_the_child_servers_and_connections_come_before_recorders(turns: list[str]) -> None:
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, ",".join(turns[2:4]).encode())
        os.write(write, b"," + b",".join(sorted(turn.encode() for turn in turns[4:])))
        os._exit(0)
    os.wait()
    os.close(write)
    with open(read, "rb") as told:
        assert told.read().decode().split(",") == [
            "server starts again",
            "engine starts again",
            "busy recorder starts again",
            "recorder starts again",
        ]


def test_an_end_that_is_interrupted_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under gevent, gunicorn raises SystemExit in whatever waits, also while calls are being saved."""
    ended: list[str] = []

    class Interrupted(Part):
        def end(self) -> None:
            self.turns.append("begins")
            if len(self.turns) == 1:
                raise SystemExit(0)
            self.turns.append("is over")

    monkeypatch.setattr(fork, "recorders", {Interrupted("recorder", ended)})
    fork._close_recorders()
    assert ended == ["begins", "begins", "is over"]
