"""Answers a view: within the viewer's limits, from the cache or built, as JSON or CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from usage_middleware.interpreter import few_collections, short_turns
from usage_middleware.report import csv
from usage_middleware.report.context import ReportSource, report_scope
from usage_middleware.report.query import Query, parse
from usage_middleware.report.size import check_size
from usage_middleware.report.view import CSV, JSON, AnyView
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.admission import Admissions
from usage_middleware.store.answer_cache import AnswerCache, Entry
from usage_middleware.web import encoding
from usage_middleware.web.app_options import AppOptions
from usage_middleware.web.budget import budget_of
from usage_middleware.web.fingerprint import fingerprint
from usage_middleware.web.http import Response
from usage_middleware.web.limits import check_plans, limit_headers, over_limit
from usage_middleware.web.pages import Visit


class _Question(NamedTuple):
    """What one viewer asks of one view, and where the answer is kept."""

    view: AnyView
    viewer: Viewer
    query: Query
    shape: str
    entry: Entry


class Views:
    """Answers the views of one usage app."""

    def __init__(self, source: ReportSource, options: AppOptions) -> None:
        check_plans(options.limit_by_plan, source.plans.declared)
        self._source = source
        self._options = options
        self._budget = budget_of(source)
        self._admissions = Admissions(lambda: source.engine.read_client, source.schema)
        self._cache = AnswerCache(lambda: source.engine.read_client, source.schema, options.cache_seconds)
        #: Part of a cached answer's name: two deployments on one namespace may have declared different things.
        self._declared = fingerprint(source.depends_on)

    def answer(self, view: AnyView, visit: Visit) -> Response:
        """The answer to one question.

        Raises:
            QueryError: it can't be answered, or the viewer has asked too often.
        """
        self._budget.require_read(visit.viewer)
        question = self._question(view, visit)
        if view.is_live:
            return Response(200, {**_shape_headers(view, question.shape), "X-Cache": "MISS"}, self._body(question))
        found = self._cached(question, visit)
        body, is_cached = self._cache.answer_with(question.entry, found, partial(self._body, question))
        if view.is_signed and question.shape == JSON:
            body = _signed(body, visit.request_id, self._source.clock())
        return Response(200, {**_shape_headers(view, question.shape), "X-Cache": "HIT" if is_cached else "MISS"}, body)

    def _question(self, view: AnyView, visit: Visit) -> _Question:
        query = parse(view, visit.request.query)
        shape = query.format or _preferred(visit.request.header("accept"))
        viewer = visit.viewer
        scope = report_scope(viewer, query.params.org, getattr(query.params, "key_id", None))
        more = view.depends_on(self._source.context(viewer), query.params)
        asked = scope.org, scope.key, scope.names, view.name, shape, query.table, query.params, self._declared, more
        who = _who(viewer)
        return _Question(view, viewer, query, shape, Entry(scope.org, _digest(who), _digest((who, viewer.names, asked))))

    def _cached(self, question: _Question, visit: Visit) -> object:
        """What is stored of the answer. Counts the question against the viewer's limits."""
        org, _, name = question.entry
        rates = self._options.rates(question.viewer, self._source.plans.name)
        admission = self._admissions.ask(org, " ".join(_who(question.viewer)), rates, name if self._cache.is_on else None)
        if admission.wait_us:
            raise over_limit(admission)
        visit.headers.update(limit_headers(admission))
        return admission.cached

    def _body(self, question: _Question) -> bytes:
        # What it costs is held until the answer is encoded: until then it takes memory.
        with self._budget.question(question.viewer) as running, short_turns, few_collections:
            body = self._encoded(question, running.charge)
        check_size(len(body))
        return body

    def _encoded(self, question: _Question, charge: Callable[[int], object]) -> bytes:
        view, viewer, query, shape, entry = question
        order = partial(self._page_order, entry.viewer)
        report = view.build(self._source.context(viewer, page_order=order, charge=charge), query.params)
        return csv.encode(*view.tables[query.table](report)) if shape == CSV else encoding.encode(view.wire(report))

    def _page_order(self, viewer: str, org: str, question: object, names: list[str]) -> list[str]:
        if not self._cache.is_on:
            return names
        entry = Entry(org, viewer, _digest(("order", viewer, question)))
        body, _ = self._cache.answer(entry, partial(msgspec.json.encode, names))
        return msgspec.json.decode(body, type=list[str])


def _who(viewer: Viewer) -> tuple[str, ...]:
    """What tells viewers apart. A key of an organisation is not the organisation."""
    if viewer.org is None:
        return ("operator",)
    return ("organization",) if viewer.key_id is None else ("key", viewer.key_id)


def _shape_headers(view: AnyView, shape: str) -> Mapping[str, str]:
    if shape == JSON:
        return {"Content-Type": "application/json"}
    return {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="usage-{view.name}.csv"',
    }


def _digest(key: object) -> str:
    # Not as JSON: names of organisations may be no Unicode.
    return blake2b(ascii(key).encode(), digest_size=16).hexdigest()


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
