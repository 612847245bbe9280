"""The application's routes, told of by its workers, so that a process that only serves views knows unused endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.record.conftest import MakeRecorder
from tests.support import Clock, record_call
from usage_middleware import UsageMiddleware, Viewer
from usage_middleware.record.flusher import ROUTES_EVERY
from usage_middleware.record.recorder import Recorder

if TYPE_CHECKING:
    from usage_middleware import Usage


def add(recorder: Recorder) -> None:
    record_call(recorder, ("acme", "key_7"), "GET /a", (), 200, 1000, 50, ())


def test_a_process_that_only_serves_views_knows_unused_endpoints(make_usage: Callable[..., Usage]) -> None:
    async def answer(_: Any) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("ok")

    serving, reading = make_usage(), make_usage()
    app = Starlette(routes=[Route("/used", answer), Route("/unused/{id}", answer, methods=["POST"])])
    with TestClient(UsageMiddleware(app, usage=serving)) as client:
        client.get("/used", headers={"x-api-key": "secret"})
        assert serving.flush()
        assert reading.reader.context(Viewer.operator()).reader.routes() == ["GET /used", "POST /unused/{id}"]
        report = reading.reader.by_key(Viewer.organization("default"), period="24h")
        assert report is not None


def test_about_hourly_and_pruned(make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock) -> None:
    monotonic, asked = Clock(0.0), [0]
    known = ["GET /a", "GET /b"]

    def routes() -> list[str]:
        asked[0] += 1
        return list(known)

    recorder = make_recorder(routes=routes, monotonic=monotonic)
    key = f"{namespace}:{{*}}:routes"
    for _ in range(3):
        add(recorder)
        assert recorder.flush()
    assert asked == [1]
    assert client.zrange(key, 0, -1) == [b"GET /a", b"GET /b"]
    assert 0 < client.ttl(key) <= 2 * 86_400
    known.remove("GET /a")
    for _ in range(49):
        monotonic.advance(ROUTES_EVERY)
        clock.advance(ROUTES_EVERY)
        add(recorder)
        assert recorder.flush()
    assert asked == [50]
    assert client.zrange(key, 0, -1) == [b"GET /b"]


def test_routes_that_can_not_be_listed_keep_nothing_from_being_counted(
    make_recorder: MakeRecorder, counted: Callable[..., int]
) -> None:
    def routes() -> list[str]:
        raise TypeError("an application may be anything")

    recorder = make_recorder(routes=routes)
    add(recorder)
    assert recorder.flush()
    assert counted() == 1
    assert recorder.stats().lost == {"routes": 1}
