"""The usage API behind every shell: one synchronous function from a request to a response."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple, Protocol

import msgspec

from usage_middleware.credentials import Credentials
from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.report import csv
from usage_middleware.report.context import ReportSource, report_scope
from usage_middleware.report.health import health
from usage_middleware.report.query import Query, parse
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.view import CSV, JSON, AnyView
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline
from usage_middleware.store.answer_cache import AnswerCache
from usage_middleware.web import openapi
from usage_middleware.web.auth import Forbidden, not_a_viewer, refusal, unauthenticated
from usage_middleware.web.errors import error_response
from usage_middleware.web.http import Authenticate, Request, Response, json_response

#: How long Redis may take for all of one answer, who asks included, in seconds. Within 2 s there is an answer, or 503.
ANSWER_SECONDS = 1.8


class HasReports(Protocol):
    """What the usage API is made from: a `Usage` has it."""

    @property
    def reader(self) -> ReportSource:
        """Where its reports come from."""

    @property
    def credentials(self) -> Credentials:
        """Where requests show their API keys."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to a page."""

    request: Request
    request_id: str
    authenticated: Viewer | None

    @property
    def viewer(self) -> Viewer:
        """Who looks.

        Raises:
            QueryError: `unauthenticated`: the page is public.
        """
        if self.authenticated is None:
            raise unauthenticated()
        return self.authenticated


class Page(NamedTuple):
    """What answers under one path.

    Attributes:
        is_public: everybody may look, without `auth`.
        cache_control: of an answer; errors are always private.
        error_fields: what its errors carry beside the envelope.
    """

    answer: Callable[[Visit], Response]
    is_public: bool = False
    cache_control: str = "private"
    error_fields: Mapping[str, object] = MappingProxyType({})


class Handler:
    """Answers every request: the views, `/openapi.json`, `/health`, and further `pages` by their paths."""

    def __init__(self, source: ReportSource, cache_seconds: int, pages: Mapping[str, Page] = MappingProxyType({})) -> None:
        if isinstance(cache_seconds, bool) or not isinstance(cache_seconds, int) or cache_seconds < 0:
            raise ConfigurationError(f"cache_seconds must be a whole number, 0 for no cache, not {cache_seconds!r}")
        self._source = source
        self._settings = declared = source.schema.settings
        #: Part of a cached answer's name: two deployments on one namespace may have declared different things.
        self._declared = (declared.dimensions, declared.counters, dict(declared.rates), declared.rank_by, declared.slot_minutes)
        self._cache = AnswerCache(lambda: source.engine.read_client, source.schema, cache_seconds)
        self._pages = {
            **{view.path: Page(partial(self._view, view), error_fields=view.error_fields) for view in VIEWS},
            "/openapi.json": Page(self._openapi),
            "/health": Page(self._health),
            **pages,
        }

    def answer(self, request: Request, authenticate: Authenticate) -> Response:
        """The response to any request; it never raises."""
        request_id = f"req_{secrets.token_hex(16)}"
        page = self._pages.get(request.path.removesuffix("/") or "/")
        try:
            with deadline.within(ANSWER_SECONDS):
                cache_control, found = _visited(page, request, request_id, authenticate)
        except Exception as error:
            cache_control, found = "private", error_response(error, request_id, page.error_fields if page else {})
        shared = {
            "X-Request-Id": request_id,
            "Cache-Control": cache_control,
            "Vary": "Accept",
            "Content-Length": str(len(found.body)),
        }
        return Response(found.status, {**found.headers, **shared}, b"" if request.method == "HEAD" else found.body)

    def _view(self, view: AnyView, visit: Visit) -> Response:
        query = parse(view, visit.request.query)
        shape = query.format or _preferred(visit.request.accept)
        org, name = self._entry(view, visit.viewer, query, shape)
        body, is_cached = self._cache.answer(org, name, partial(self._body, view, visit.viewer, query, shape))
        if view.is_signed and shape == JSON:
            body = _signed(body, visit.request_id, self._source.clock())
        return Response(200, {**_shape_headers(view, shape), "X-Cache": "HIT" if is_cached else "MISS"}, body)

    def _entry(self, view: AnyView, viewer: Viewer, query: Query, shape: str) -> tuple[str, str]:
        """The organisation that a cached answer belongs to, and its name there: a digest of all that it depends on."""
        scope = report_scope(viewer, query.params.org, getattr(query.params, "key_id", None))
        who = viewer.org, viewer.key_id, scope.org, scope.key
        return scope.org, _digest((*who, view.name, shape, query.table, query.params, self._declared))

    def _body(self, view: AnyView, viewer: Viewer, query: Query, shape: str) -> bytes:
        report = view.build(self._source.context(viewer, page_order=self._page_order), query.params)
        return csv.encode(*view.tables[query.table](report)) if shape == CSV else msgspec.json.encode(view.wire(report))

    def _page_order(self, org: str, question: object, names: list[str]) -> list[str]:
        body, _ = self._cache.answer(org, _digest(("order", question)), partial(msgspec.json.encode, names))
        return msgspec.json.decode(body, type=list[str])

    def _openapi(self, visit: Visit) -> Response:
        return json_response(openapi.document(self._settings, visit.viewer, visit.request.root))

    def _health(self, visit: Visit) -> Response:
        if not visit.viewer.is_operator:
            raise Forbidden("Only operators may look at the recorder's state.")
        return json_response(health(self._source))


def _visited(page: Page | None, request: Request, request_id: str, authenticate: Authenticate) -> tuple[str, Response]:
    if page is None:
        raise QueryError("not_found", "There is nothing under this path.")
    if request.method not in ("GET", "HEAD"):
        raise QueryError("method_not_allowed", "Only GET and HEAD are possible.")
    viewer = None if page.is_public else viewer_from(authenticate)
    return page.cache_control, page.answer(Visit(request, request_id, viewer))


def viewer_from(authenticate: Authenticate) -> Viewer:
    """Who looks.

    Raises:
        QueryError: `unauthenticated`, `forbidden`, or what `auth` raised.
        TypeError: `auth` returned something else than a Viewer or None: that opens nothing.
    """
    try:
        found = authenticate()
    except Exception as error:
        refused = refusal(error)
        if refused is error:
            raise
        raise refused from error
    if isinstance(found, Viewer):
        return found
    raise unauthenticated() if found is None else not_a_viewer(found)


def _shape_headers(view: AnyView, shape: str) -> Mapping[str, str]:
    if shape == JSON:
        return {"Content-Type": "application/json"}
    return {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="usage-{view.name}.csv"',
    }


def _digest(key: object) -> str:
    return blake2b(msgspec.json.encode(key), digest_size=16).hexdigest()


def _signed(body: bytes, request_id: str, now: float) -> bytes:
    """The answer with the request's id first and the time last: they change with every request, so they are not cached."""
    completed = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return b'{"api_request_id":"%b",%b,"request_completed_at":"%b"}' % (request_id.encode(), body[1:-1], completed.encode())


def _preferred(accept: str) -> str:
    """The format that an `Accept` header wants.

    >>> _preferred("text/csv"), _preferred("*/*"), _preferred("text/csv;q=0.5, application/json")
    ('csv', 'json', 'json')
    """
    wanted = dict(_quality(part) for part in accept[:1000].lower().split(","))
    csv_quality = wanted.get("text/csv", 0.0)
    rest = max(wanted.get("*/*", 0.0), wanted.get("text/*", 0.0))
    return CSV if csv_quality > wanted.get("application/json", 0.0) and csv_quality >= rest else JSON


def _quality(part: str) -> tuple[str, float]:
    kind, *options = (piece.strip() for piece in part.split(";"))
    stated = next((option[2:] for option in options if option.startswith("q=")), "1")
    try:
        return kind, float(stated)
    except ValueError:
        return kind, 0.0
