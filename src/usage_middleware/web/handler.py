"""The usage API behind every shell: one synchronous function from a request to a response."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.report.viewer import Viewer, report_scope
from usage_middleware.store.driver_errors import guard
from usage_middleware.store.schema import Schema
from usage_middleware.web import csv, health, openapi
from usage_middleware.web.auth import viewer_from
from usage_middleware.web.cache import Cache
from usage_middleware.web.errors import error_response
from usage_middleware.web.http import Authenticate, Request, Response, json_response
from usage_middleware.web.views import CSV, JSON, VIEWS, Question, View, parse

if TYPE_CHECKING:
    from usage_middleware.usage import Usage


class Asked(NamedTuple):
    """A request that may be answered."""

    viewer: Viewer
    request: Request
    request_id: str


class Page(NamedTuple):
    """What answers under one path; `error_fields` is what its errors carry beside the envelope."""

    answer: Callable[[Asked], Response]
    error_fields: Mapping[str, object] = MappingProxyType({})


class Handler:
    """The five views and what stands beside them, over one `Usage`."""

    def __init__(self, usage: Usage, cache_seconds: int) -> None:
        if isinstance(cache_seconds, bool) or not isinstance(cache_seconds, int) or cache_seconds < 0:
            raise ConfigurationError(f"cache_seconds must be a whole number, 0 for no cache, not {cache_seconds!r}")
        self._usage = usage
        declared = usage.settings
        #: What an answer's shape depends on: two deployments on one namespace may have declared different things.
        self._counted = (declared.dimensions, declared.counters, dict(declared.rates), declared.rank_by, declared.slot_minutes)
        self._cache = Cache(lambda: usage.engine.read_client, Schema(usage.settings), cache_seconds)
        self._pages = {view.path: Page(partial(self._view, view), view.error_fields) for view in VIEWS}
        self._pages["/openapi.json"] = Page(self._openapi)
        self._pages["/health"] = Page(self._health)

    def answer(self, request: Request, authenticate: Authenticate) -> Response:
        """The response to any request; it never raises."""
        request_id = f"req_{secrets.token_hex(16)}"
        page = self._pages.get(request.path.removesuffix("/") or "/")
        try:
            with guard():
                found = self._found(page, request, request_id, authenticate)
        except Exception as error:
            found = error_response(error, request_id, page.error_fields if page else {})
        response = found.with_headers(_shared_headers(request_id, found.body))
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _found(self, page: Page | None, request: Request, request_id: str, authenticate: Authenticate) -> Response:
        if page is None:
            raise QueryError("not_found", "There is nothing under this path.")
        if request.method not in ("GET", "HEAD"):
            raise QueryError("method_not_allowed", "Only GET and HEAD are possible.")
        return page.answer(Asked(viewer_from(authenticate), request, request_id))

    def _view(self, view: View, asked: Asked) -> Response:
        question = parse(view, asked.request.query)
        shape = question.format or _preferred(asked.request.accept)
        org, name = _entry(view, asked.viewer, question, shape, self._counted)
        body, is_kept = self._cache.answer(org, name, partial(self._body, view, asked.viewer, question, shape))
        if view.is_signed and shape == JSON:
            body = _signed(body, asked.request_id, self._usage.clock())
        return Response(200, {**_shape_headers(view, shape), "X-Cache": "HIT" if is_kept else "MISS"}, body)

    def _body(self, view: View, viewer: Viewer, question: Question, shape: str) -> bytes:
        now = math.ceil(self._usage.clock())
        build = partial(view.build, keep=self._order) if view.is_paged else view.build
        report = build(self._usage.reader.counters, viewer, question.params, now)
        return csv.encode(*view.table(report, question.table)) if shape == CSV else msgspec.json.encode(view.wire(report))

    def _order(self, org: str, question: object, names: list[str]) -> list[str]:
        body, _ = self._cache.answer(org, _digest(("order", question)), partial(msgspec.json.encode, names))
        return msgspec.json.decode(body, type=list[str])

    def _openapi(self, asked: Asked) -> Response:
        return json_response(openapi.document(self._usage.settings, asked.viewer, asked.request.root))

    def _health(self, asked: Asked) -> Response:
        return health.response(self._usage, asked.viewer)


def _shared_headers(request_id: str, body: bytes) -> Mapping[str, str]:
    return {
        "X-Request-Id": request_id,
        "Cache-Control": "private",
        "Vary": "Accept",
        "Content-Length": str(len(body)),
    }


def _shape_headers(view: View, shape: str) -> Mapping[str, str]:
    if shape == JSON:
        return {"Content-Type": "application/json"}
    return {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="usage-{view.name}.csv"',
    }


def _entry(view: View, viewer: Viewer, question: Question, shape: str, counted: object) -> tuple[str, str]:
    """The organisation that a kept answer belongs to, and its name there: all that the answer depends on but the time."""
    scope = report_scope(viewer, question.params.org, getattr(question.params, "key_id", None))
    told = (viewer.org, viewer.key_id, scope.org, scope.key, view.name, shape, question.table, question.params, counted)
    return scope.org, _digest(told)


def _digest(told: object) -> str:
    return blake2b(msgspec.json.encode(told), digest_size=16).hexdigest()


def _signed(body: bytes, request_id: str, now: float) -> bytes:
    """The answer with the request's id at its beginning and the time at its end: they alone change, so they are not kept."""
    completed = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return b'{"api_request_id":"%b",%b,"request_completed_at":"%b"}' % (request_id.encode(), body[1:-1], completed.encode())


def _preferred(accept: str) -> str:
    """The format that an `Accept` header wants.

    >>> _preferred("text/csv"), _preferred("*/*"), _preferred("text/csv;q=0.5, application/json")
    ('csv', 'json', 'json')
    """
    wanted = dict(_qualities(accept))
    csv_quality = wanted.get("text/csv", 0.0)
    rest = max(wanted.get("*/*", 0.0), wanted.get("text/*", 0.0))
    return CSV if csv_quality > wanted.get("application/json", 0.0) and csv_quality >= rest else JSON


def _qualities(accept: str) -> list[tuple[str, float]]:
    return [_quality(part) for part in accept[:1000].lower().split(",")]


def _quality(part: str) -> tuple[str, float]:
    kind, *options = (piece.strip() for piece in part.split(";"))
    stated = next((option[2:] for option in options if option.startswith("q=")), "1")
    try:
        return kind, float(stated)
    except ValueError:
        return kind, 0.0
