"""CORS: which pages of other origins may ask from a browser."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from usage_middleware.web.http import Request, Response

#: What a page of another origin may read beside the body.
EXPOSED = (
    "Content-Disposition, RateLimit, RateLimit-Policy, Retry-After, X-Cache, X-RateLimit-Limit, X-RateLimit-Remaining, "
    "X-RateLimit-Reset, X-Request-Id"
)
#: How long a browser may remember what a preflight allowed, seconds.
MAX_AGE = 600
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\s*,\s*[A-Za-z0-9_-]{1,64}){0,31}")


class Cors:
    """Adds what browsers want to see, for exact origins. Without origins it adds nothing."""

    def __init__(self, origins: Sequence[str], allow_credentials: bool) -> None:
        self._origins = frozenset(origins)
        self._allow_credentials = allow_credentials

    @property
    def is_on(self) -> bool:
        """Whether any origin is allowed."""
        return bool(self._origins)

    @property
    def methods(self) -> str:
        """The methods that are possible, as `Allow` lists them."""
        return "GET, HEAD, OPTIONS" if self.is_on else "GET, HEAD"

    def headers(self, request: Request) -> Mapping[str, str]:
        """What every answer to this request carries, errors too."""
        allowed = self._allowed(request)
        return {**allowed, "Access-Control-Expose-Headers": EXPOSED} if allowed else {}

    def preflight(self, request: Request) -> Response:
        """The answer to OPTIONS. It says nothing of who may ask, so it needs no `auth`."""
        allowed = dict(self._allowed(request))
        if allowed and request.header("access-control-request-method"):
            allowed["Access-Control-Allow-Methods"] = self.methods
            allowed["Access-Control-Max-Age"] = str(MAX_AGE)
            wanted = request.header("access-control-request-headers")
            # Which header an `auth` reads is not known here. The origin is one that the application trusts.
            if _HEADER_NAMES.fullmatch(wanted.strip()):
                allowed["Access-Control-Allow-Headers"] = wanted.strip()
        return Response(204, {"Allow": self.methods, **allowed}, b"")

    def _allowed(self, request: Request) -> Mapping[str, str]:
        origin = request.header("origin")
        if origin not in self._origins:
            return {}
        allowed = {"Access-Control-Allow-Origin": origin}
        if self._allow_credentials:
            allowed["Access-Control-Allow-Credentials"] = "true"
        return allowed
