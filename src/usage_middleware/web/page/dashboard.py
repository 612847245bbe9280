"""`/dashboard`: who looks, what there is to ask, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote

import msgspec

from usage_middleware.credentials import Credentials
from usage_middleware.options import CounterKind
from usage_middleware.periods import rfc3339
from usage_middleware.report.by_group import allowed_groups
from usage_middleware.report.context import ReportSource
from usage_middleware.web.app_options import AppOptions
from usage_middleware.web.browser_auth import SignIn, cookies
from usage_middleware.web.http import Request, Response, json_response
from usage_middleware.web.page.document import Start, document, policy
from usage_middleware.web.page.files import A_WHILE, CHART, FOREVER, SCRIPT, static_files
from usage_middleware.web.page.words import LANGUAGES, language_of
from usage_middleware.web.pages import Page, Visit

PATH = "/dashboard"
THEMES = ("light", "dark")
#: The counters that percentiles are read from; within other days than those of UTC as long as half-hours are kept of them.
_HISTOGRAMS: tuple[CounterKind, ...] = ("board", "key_board")


class Dashboard:
    """The page of one usage app."""

    def __init__(
        self,
        source: ReportSource,
        options: AppOptions,
        places: Credentials,
        sign_in: SignIn | None = None,
    ) -> None:
        self._source = source
        self._sign_in = sign_in
        self._embed_origins = options.embed_origins
        self._header = places.headers[0] if places.headers else ""
        self._files = static_files(plans=source.plans.declared.is_on)

    def pages(self) -> Mapping[str, Page]:
        """The page and its files, by their paths."""
        static = self._files
        files = {
            f"/{static.path(one.name)}": Page(one.answer, "static", is_public=True, cache_control=FOREVER)
            for one in static.files
        }
        chart = f'import "./{static.folder}/{CHART}";\n'.encode()
        files[f"{PATH}/{CHART}"] = Page(
            lambda _: Response(200, {"Content-Type": SCRIPT}, chart), "static", is_public=True, cache_control=A_WHILE
        )
        begin = Page(lambda visit: json_response(self._start(visit)), "dashboard", cache_control="no-store")
        page = Page(self._answer, "dashboard", cache_control="no-store", refused=self._refused)
        return {PATH: page._replace(is_open=self._is_embedded), f"{PATH}/start": begin, **files, **self._doors()}

    def _is_embedded(self, request: Request) -> bool:
        """Whether a frame asks for the page: it gets the token from the page around it, and shows it with its questions."""
        return bool(self._embed_origins) and _asked(request).get("embed") == "1"

    def _doors(self) -> dict[str, Page]:
        """Where people sign in and out."""
        sign_in = self._sign_in
        if sign_in is None:
            return {}
        return {
            "/sign-in": Page(
                lambda visit: sign_in.enter(visit.request), "sign-in", is_public=True, methods=("POST",), is_attempt=True
            ),
            "/sign-out": Page(lambda visit: sign_in.leave(visit.request), "sign-out", is_public=True, methods=("POST",)),
        }

    def _answer(self, visit: Visit) -> Response:
        if self._is_embedded(visit.request):
            return self._html(visit.request, 200, {"embedded": True})
        return self._html(visit.request, 200, self._start(visit))

    def _refused(self, visit: Visit, error: Response) -> Response:
        """The page that says why there is none."""
        found = self._html(
            visit.request,
            error.status,
            {"error": msgspec.json.decode(error.body), "had_session": self._had_session(visit.request)},
        )
        if found.status != error.status:
            return found
        return found._replace(headers={**error.headers, **found.headers})

    def _had_session(self, request: Request) -> bool:
        """Whether somebody was signed in, and is not any more."""
        return self._sign_in is not None and any(cookies(request.header("cookie"), self._sign_in.cookie))

    def _html(self, request: Request, status: int, start: Mapping[str, object]) -> Response:
        if request.path.endswith("/"):
            return _without_slash(request)
        asked = _asked(request)
        language = language_of(asked.get("lang", ""), request.header("accept-language"))
        theme = asked.get("theme", "")
        known = {
            "languages": LANGUAGES,
            "now": rfc3339(self._source.clock()),
            "header": self._header,
            "signs_in": self._sign_in is not None,
        }
        starts = Start({**known, **start}, language, theme if theme in THEMES else "", asked)
        body = document(self._files, starts)
        frames = self._embed_origins if self._is_embedded(request) else ()
        return Response(status, {**_HEADERS, "Content-Security-Policy": policy(frames)}, body)

    def _start(self, visit: Visit) -> dict[str, object]:
        settings, viewer, plans = self._source.schema.settings, visit.viewer, self._source.plans.declared
        return {
            "viewer": {"org": viewer.org, "key": viewer.key_id, "operator": viewer.is_operator},
            "groups": allowed_groups(settings, viewer),
            "counters": settings.counters,
            "rates": settings.rates,
            "together": settings.operator_tree,
            "framed_by": visit.framed_by,
            "plans": plans.is_on,
            "prices": any(plan.prices for plan in plans.by_name.values()),
            "kept": {kind: settings.kept(kind, settings.layers.middle.rank) for kind in _HISTOGRAMS},
        }


def _without_slash(request: Request) -> Response:
    """Leads to the page: the addresses in it are relative to its own."""
    query = quote(request.query, safe=_SEEN)
    headers = {"Content-Type": "text/plain; charset=utf-8", "Location": f"../{PATH[1:]}{query and '?'}{query}"}
    return Response(308, headers, b"")


def _asked(request: Request) -> dict[str, str]:
    """The parameters of the page's address; none of one that has too many."""
    try:
        return dict(parse_qsl(request.query.decode("ascii", "replace"), max_num_fields=100))
    except ValueError:
        return {}


#: What stays as it is in a `Location`: a header carries nothing but ASCII that can be seen.
_SEEN = "".join(map(chr, range(0x21, 0x7F)))
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Referrer-Policy": "same-origin",
}
