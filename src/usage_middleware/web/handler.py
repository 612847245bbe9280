"""The usage API behind every shell: one synchronous function from a request to a response."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from usage_middleware.credentials import Credentials
from usage_middleware.errors import QueryError
from usage_middleware.report import corrections
from usage_middleware.report.context import ReportSource
from usage_middleware.report.embed import PREFIX, embedded_viewer, tickets_of
from usage_middleware.report.health import health
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline
from usage_middleware.web import openapi
from usage_middleware.web.app_options import AppOptions
from usage_middleware.web.attempts import Audit, attempts_of
from usage_middleware.web.auth import Auth, Forbidden, not_a_viewer, refusal, unauthenticated
from usage_middleware.web.browser_auth import BrowserAuth, SignIn, bearer
from usage_middleware.web.budget import budget_of
from usage_middleware.web.cors import Cors
from usage_middleware.web.errors import Refused, error_response
from usage_middleware.web.http import Request, Response, json_response
from usage_middleware.web.limits import REFUSED_SIGN_INS, RefusedAddresses, named_address, over_attempts, public_address
from usage_middleware.web.page.dashboard import Dashboard
from usage_middleware.web.pages import PRIVATE, Page, Visit
from usage_middleware.web.views import Views

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


class Handler:
    """Answers every request: the views, `/openapi.json`, `/health`, `/dashboard`, and further `pages` by their paths.

    `auth` gets the shell's own request, and says who looks; API keys are in these `places`.
    """

    def __init__(
        self,
        source: ReportSource,
        auth: Auth,
        options: AppOptions,
        places: Credentials,
        pages: Mapping[str, Page] = MappingProxyType({}),
        *,
        sign_in: SignIn | None = None,
    ) -> None:
        self._source = source
        self._settings = source.schema.settings
        self._auth = auth
        self._places = places
        self._options = options
        self._cors = Cors(options.allow_origins, options.allow_credentials)
        self._addresses = RefusedAddresses()
        self._sign_ins = RefusedAddresses(rate=REFUSED_SIGN_INS)
        self._attempts = attempts_of(source)
        self._audit = Audit(options.on_access)
        self._vary = ", ".join(("Accept", "Origin", "Cookie", *places.headers))
        views = Views(source, options)
        self._pages = {
            **{
                view.path: Page(partial(views.answer, view), view.name, error_fields=view.error_fields)
                for view in (*VIEWS, *PLAN_VIEWS)
            },
            "/openapi.json": Page(self._openapi, "openapi"),
            "/health": Page(self._health, "health"),
            corrections.VIEW.path: Page(partial(self._corrections, views), corrections.VIEW.name),
            **pages,
        }
        self._pages |= Dashboard(source, options, places, sign_in).pages()

    def answer(self, request: Request, own: Any) -> Response:
        """The response to any request; `own` is the shell's, for `auth`. It never raises."""
        request = request._replace(query=self._places.without_secrets(request.query))
        page = self._pages.get(request.path.removesuffix("/") or "/")
        visit = Visit(request, f"req_{secrets.token_hex(16)}")
        if request.method == "OPTIONS" and self._cors.is_on:
            return self._finished(visit, self._cors.preflight(request), PRIVATE)
        try:
            with deadline.within(ANSWER_SECONDS):
                found = self._visited(page, visit, own)
        except Exception as error:
            found = error_response(self._noted(error), visit.request_id, page.error_fields if page else {})
            found = page.refused(visit, found) if page and page.refused else found
            _let_go(error)
        self._audit.note(visit.authenticated, page and page.name, found.status)
        return self._finished(visit, found, page.cache_control if page and (found.status == 200 or page.refused) else PRIVATE)

    def _visited(self, page: Page | None, visit: Visit, own: Any) -> Response:
        if page is None:
            raise QueryError("not_found", "There is nothing under this path.")
        if visit.request.method not in (page.methods or ("GET", "HEAD")):
            possible = self._cors.methods if page.methods is None else ", ".join(page.methods)
            raise Refused("method_not_allowed", f"Only {possible} are possible.", {"Allow": possible})
        if page.is_attempt:
            with self._attempting(self._sign_ins, visit.request, own):
                return page.answer(visit)
        if not (page.is_public or page.is_open(visit.request)):
            with self._attempting(self._addresses, visit.request, own):
                visit.authenticated = self._viewer(visit, own)
        return page.answer(visit)

    def _viewer(self, visit: Visit, own: Any) -> Viewer:
        token = bearer(visit.request) if self._options.embed_origins else ""
        if not token.startswith(PREFIX):
            return viewer_from(self._auth, own)
        found = embedded_viewer(self._source, token, self._options.name)
        if found is None or found[1] not in self._options.embed_origins:
            raise QueryError("unauthenticated", "This page was shown for too long: load the page around it again.")
        viewer, visit.framed_by = found
        return viewer

    @contextmanager
    def _attempting(self, refused: RefusedAddresses, request: Request, own: Any) -> Iterator[None]:
        """Counts a refusal inside of it against the address, and refuses in other words what came too often."""
        try:
            yield
        except QueryError as error:
            if error.code != "unauthenticated":
                raise
            seconds = self._refused_for(refused, request, own)
            if seconds:
                raise over_attempts(seconds) from error
            raise

    def _refused_for(self, refused: RefusedAddresses, request: Request, own: Any) -> int:
        """How many seconds the address has to wait whose credential was refused just now; 0: it may try again."""
        locate = self._options.client_address
        if locate is None:
            address = public_address(request.peer)
        else:
            given = locate(own)
            address = named_address(str(given)) if given else None
        return 0 if address is None else refused.note(address)

    def _noted(self, error: Exception) -> Exception:
        self._attempts.note(error)
        return error

    def _finished(self, visit: Visit, found: Response, cache_control: str) -> Response:
        headers = {
            **found.headers,
            **visit.headers,
            **self._cors.headers(visit.request),
            "X-Request-Id": visit.request_id,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": cache_control,
            "Vary": found.headers.get("Vary", self._vary),
        }
        if found.status != 204:
            headers["Content-Length"] = str(len(found.body))
        body = b"" if visit.request.method == "HEAD" else found.body
        return Response(found.status, headers, body, visit.authenticated)

    def sending(self, response: Response) -> AbstractContextManager[None]:
        """Around what sends a response piece by piece, as its client takes it: until then it is in memory."""
        return budget_of(self._source).sending(response.viewer, len(response.body))

    def _openapi(self, visit: Visit) -> Response:
        return json_response(openapi.document(self._settings, visit.viewer, visit.request.root))

    def _corrections(self, views: Views, visit: Visit) -> Response:
        if not visit.viewer.is_operator:
            raise Forbidden("Only operators may look at corrections.")
        return views.answer(corrections.VIEW, visit)

    def _health(self, visit: Visit) -> Response:
        if not visit.viewer.is_operator:
            raise Forbidden("Only operators may look at the recorder's state.")
        refused = dict(sorted(self._attempts.refused.items()))
        return json_response({**msgspec.structs.asdict(health(self._source)), "refused_attempts": refused})


def _let_go(error: BaseException) -> None:
    """Drop what an error knows of where it was raised: all that was read by then would wait for the garbage collector."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        # `raise error from error` makes a circle.
        if id(one) not in seen:
            seen.add(id(one))
            # Not by its attribute: an exception that is a frozen dataclass refuses that.
            BaseException.with_traceback(one, None)
            left += [other for other in (one.__cause__, one.__context__) if other is not None]


def bound(auth: Auth, usage: HasReports, options: AppOptions) -> Auth:
    """An `auth` for one usage app: a `BrowserAuth` gets what it signs in with.

    Raises:
        ConfigurationError: a `BrowserAuth`, and the usage app has no name.
    """
    if not isinstance(auth, BrowserAuth):
        return auth
    return auth.signing_in(tickets_of(usage.reader), options.name, usage.credentials)


def sign_in_of(auth: Auth) -> SignIn | None:
    """Where people sign in, if they do."""
    return auth if isinstance(auth, SignIn) else None


def viewer_from(auth: Auth, own: Any) -> Viewer:
    """Who looks.

    Raises:
        QueryError: `unauthenticated`, `forbidden`, or what `auth` raised.
        TypeError: `auth` returned something else than a Viewer or None: that opens nothing.
    """
    try:
        found = auth(own)
    except Exception as error:
        refused = refusal(error)
        if refused is error:
            raise
        raise refused from error
    if isinstance(found, Viewer):
        return found
    raise unauthenticated() if found is None else not_a_viewer(found)
