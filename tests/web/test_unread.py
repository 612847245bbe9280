"""Answers that their client does not read: how much of them is kept in memory, and that others don't notice."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import ACME, GLOBEX, OperatorOrKey
from tests.web.hosts import HOSTS, Api
from usage_middleware import Viewer
from usage_middleware.web import starlette, usage_app
from usage_middleware.web.budget import MOST_UNREAD, Budget, budget_of
from usage_middleware.web.errors import Refused

if TYPE_CHECKING:
    from usage_middleware import Usage

ACME_VIEWER, GLOBEX_VIEWER = Viewer.organization("acme"), Viewer.organization("globex")


def test_who_leaves_too_much_unread_has_to_wait() -> None:
    budget = Budget()
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(budget.sending(ACME_VIEWER, MOST_UNREAD // 4))
        budget.require_read(ACME_VIEWER)
        with budget.sending(ACME_VIEWER, 1):
            with pytest.raises(Refused) as refused:
                budget.require_read(ACME_VIEWER)
            budget.require_read(GLOBEX_VIEWER)
        budget.require_read(ACME_VIEWER)
    assert not budget._unread
    assert (refused.value.code, refused.value.headers) == ("rate_limited", {"Retry-After": "1"})


def test_an_answer_to_nobody_is_not_kept_account_of() -> None:
    budget = Budget()
    with budget.sending(None, 10 * MOST_UNREAD):
        assert not budget._unread


def test_views_are_refused_in_every_shell_and_cached_answers_too(usage: Usage) -> None:
    for host in HOSTS:
        api = Api(host, host.make(usage, auth=OperatorOrKey(usage.keys)), ACME)
        assert api.get("/summary").status == 200
        with budget_of(usage.reader).sending(ACME_VIEWER, MOST_UNREAD + 1):
            reply = api.get("/summary")
            assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "rate_limited", "1")
            assert api.with_key(GLOBEX).get("/summary").status == 200
        assert api.get("/summary").headers["x-cache"] == "HIT"


class SlowClient:
    """A server whose client takes one piece of an answer at a time."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.asked, self.taken = asyncio.Event(), asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.asked.set()
            await self.taken.wait()

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}


def scope(key: str) -> dict[str, Any]:
    headers = [(b"x-api-key", key.encode())]
    return {
        "type": "http", "method": "GET", "path": "/openapi.json", "root_path": "", "query_string": b"", "headers": headers,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starlette, "PIECE", 1_000)


@pytest.mark.usefixtures("in_pieces")
def test_an_answer_is_unread_until_its_last_piece_is_taken(usage: Usage) -> None:
    app, budget = usage_app(usage, auth=OperatorOrKey(usage.keys)), budget_of(usage.reader)

    async def ask() -> list[MutableMapping[str, Any]]:
        client = SlowClient()
        task = asyncio.create_task(app(scope(ACME), client.receive, client.send))
        await client.asked.wait()
        length = int(dict(client.messages[0]["headers"])[b"content-length"])
        assert budget._unread == {ACME_VIEWER: length}
        client.taken.set()
        await task
        assert length == sum(len(message["body"]) for message in client.messages[1:])
        return client.messages

    messages = asyncio.run(ask())
    assert not budget._unread
    assert [message.get("more_body", False) for message in messages[1:]] == [True] * (len(messages) - 2) + [False]
    assert {len(message["body"]) for message in messages[1:-1]} == {1_000}


@pytest.mark.usefixtures("in_pieces")
def test_a_client_that_leaves_has_nothing_unread(usage: Usage) -> None:
    app, budget = usage_app(usage, auth=OperatorOrKey(usage.keys)), budget_of(usage.reader)

    async def leave() -> None:
        client = SlowClient()
        task = asyncio.create_task(app(scope(ACME), client.receive, client.send))
        await client.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert not budget._unread
