"""Since which version of Redis there are the commands that a server is sent, and their options, by the server's own account."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import redis

from tests.support import ServerProcess, eventually

Version: TypeAlias = tuple[int, ...]

#: The oldest version that the package works with.
OLDEST: Version = (6, 2)
#: Nothing depends on it: the driver sends it and goes on where it is unknown, or we ask here, or (`eval_ro`) the package has
#: plain commands in its place.
OPTIONAL = frozenset({"client|setinfo", "command|docs", "eval_ro"})
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_END = "the end of what is watched"


class Docs:
    """What a server says of its commands.

    Attributes:
        commands: name, with `|` before a subcommand -> since which version it is there.
        options: the same names -> option -> since which version; without those that are as old as the command.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.commands: dict[str, Version] = {}
        self.options: dict[str, dict[str, Version]] = {}
        self._learn(_asked(client, "COMMAND", "DOCS"))

    def _learn(self, flat: Sequence[Any]) -> None:
        for name, doc in _pairs(flat).items():
            about = _pairs(doc)
            self.commands[name] = _version(about["since"])
            self.options[name] = dict(_options(about.get("arguments", ()), (0,)))
            self._learn(about.get("subcommands", ()))

    def name(self, words: Sequence[str]) -> str:
        """The command that some words are, as the server calls it."""
        whole = "|".join(words[:2]).lower()
        return whole if whole in self.commands else words[0].lower()

    def newer(self, words: Sequence[str]) -> Iterator[str]:
        """What of a command, and of its options, an older server does not know."""
        name = self.name(words)
        if self.commands[name] > (*OLDEST, 99):
            yield name
        for option, since in self.options[name].items():
            if since > (*OLDEST, 99) and option in map(str.upper, words[1:]):
                yield f"{name} ... {option}"

    def newer_of_all(self, sent: Iterable[Sequence[str]]) -> set[str]:
        """The same of many commands, without what nothing depends on."""
        return {found for words in sent for found in self.newer(words)} - OPTIONAL


def docs(client: redis.Redis) -> Docs | None:
    """None where the server is too old to say."""
    return Docs(client) if version_of(client) >= (7,) else None


def version_of(client: redis.Redis) -> Version:
    """The version of Redis that a server is compatible with."""
    return _version(client.info("server")["redis_version"])


def used(client: redis.Redis) -> list[list[str]]:
    """The commands that a server has run since it began, those of scripts too, without their arguments."""
    return [name.removeprefix("cmdstat_").split("|") for name in client.info("commandstats")]


@contextmanager
def watched(server: ServerProcess) -> Iterator[list[list[str]]]:
    """The commands that a server is sent within the block, and what scripts call there; complete when it ends."""
    sent: list[list[str]] = []
    begun = threading.Event()

    def watch() -> None:
        with server.client(socket_timeout=None) as client:
            connection: Any = client.connection_pool.get_connection()
            connection.send_command("MONITOR")
            assert connection.read_response() in (b"OK", "OK")
            begun.set()
            while (words := _words(connection.read_response()))[-1] != _END:
                sent.append(words)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert begun.wait(10)
    try:
        yield sent
    finally:
        with server.client() as client:
            client.echo(_END)
        eventually(lambda: not thread.is_alive())


def _words(line: bytes | str) -> list[str]:
    raw = line.encode() if isinstance(line, str) else line
    return [word.decode("latin-1") for word in _WORD.findall(raw.split(b"] ", 1)[1])]


def _asked(client: redis.Redis, *words: str) -> Any:
    """A reply as it comes: the driver reads this one differently from version to version."""
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def _pairs(flat: Sequence[Any]) -> Mapping[str, Any]:
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _options(arguments: Iterable[Sequence[Any]], since: Version) -> Iterator[tuple[str, Version]]:
    for argument in map(_pairs, arguments):
        here = max(since, _version(argument["since"])) if "since" in argument else since
        if "token" in argument and here > (0,):
            yield _text(argument["token"]).upper(), here
        yield from _options(argument.get("arguments", ()), here)


def _version(text: bytes | str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", _text(text))[:3])


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
