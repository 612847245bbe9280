"""`BrowserAuth`: people sign in to the page with an API key, once. A cookie stands for it from then on."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

from usage_middleware.credentials import Credentials
from usage_middleware.errors import ConfigurationError
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.keys import KeyInfo
from usage_middleware.store.tickets import Ticket, Tickets
from usage_middleware.web.auth import Forbidden, KeyAuth, unauthenticated
from usage_middleware.web.http import Request, Response

#: How long one stays signed in, seconds.
SESSION_SECONDS = 12 * 3600
#: On these hosts browsers keep a cookie without TLS, and some a `Secure` one not.
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEME = "bearer "


class BrowserAuth:
    """An `auth` for people: by a cookie, which they get for an API key on the page, or by API key as before.

        mount_usage(app, "/usage", usage, auth=BrowserAuth(KeyAuth(usage.keys)), name="customers")

    The cookie is 256 random bits. What it stands for is in Redis under its hash, for 12 hours at most; that the key is active,
    and what it sees, is looked up with each request. The usage app needs a `name`: another one takes none of its cookies.

    Args:
        by_key: who sees what.

    Raises:
        ConfigurationError: `by_key` is no `KeyAuth`, its `find` is async, or its directory can't `get` a key.
    """

    def __init__(self, by_key: KeyAuth) -> None:
        if not isinstance(by_key, KeyAuth):
            raise ConfigurationError("BrowserAuth needs a KeyAuth: BrowserAuth(KeyAuth(usage.keys))")
        if by_key.is_async or not callable(getattr(by_key.keys, "get", None)):
            raise ConfigurationError("BrowserAuth needs a key directory with plain `find` and `get`")
        self._by_key = by_key

    @property
    def by_key(self) -> KeyAuth:
        """Who sees what."""
        return self._by_key

    def signing_in(self, tickets: Tickets, mount: str, usual: Credentials) -> SignIn:
        """The same for one usage app."""
        if not mount:
            raise ConfigurationError('BrowserAuth needs a name of the usage app, such as name="customers"')
        return SignIn(self._by_key.reading(usual), tickets, mount)

    def __call__(self, request: Any) -> Viewer | None:
        """Not to be asked: a usage app asks what `signing_in` returns."""
        raise ConfigurationError("BrowserAuth works as the auth of a usage app alone")


class SignIn:
    """Signing in to one usage app, staying signed in, and signing out."""

    def __init__(self, by_key: KeyAuth, tickets: Tickets, mount: str) -> None:
        self._by_key = by_key
        self._tickets = tickets
        self._mount = mount
        #: One for each mount: browsers send the cookies of an outer mount to an inner one, too.
        self.cookie = f"usage_{blake2b(mount.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"

    @property
    def credentials(self) -> Credentials:
        """Where API keys are read."""
        return self._by_key.credentials

    def __call__(self, request: Any) -> Viewer | None:
        """Who looks: the API key that is shown decides, else the cookie."""
        found = self._by_key(request)
        if found is not None or self._by_key.shows(request):
            return found
        info = next(filter(None, map(self._key_of, cookies(_cookie_header(request), self.cookie))), None)
        return None if info is None else self._by_key.viewer(info)

    def _key_of(self, token: str) -> KeyInfo | None:
        ticket = self._tickets.find("session", token, self._mount)
        if ticket is None or ticket.key is None:
            return None
        info = self._by_key.keys.get(ticket.org, ticket.key)
        return info if info is not None and info.revoked_at is None else None

    def enter(self, request: Request) -> Response:
        """Sign in with the API key in `Authorization: Bearer`.

        Raises:
            QueryError: `forbidden` from another site, `unauthenticated` without a valid key.
        """
        check_same_origin(request)
        secret = bearer(request)
        info = self._by_key.key_of(secret) if secret else None
        if info is None or info.org is None or self._by_key.viewer(info) is None:
            raise unauthenticated()
        self._forget(request)
        token = self._tickets.issue("session", Ticket(info.org, info.id, self._mount), SESSION_SECONDS)
        return Response(204, {"Set-Cookie": self._set(request, token, SESSION_SECONDS)}, b"")

    def leave(self, request: Request) -> Response:
        """Sign out.

        Raises:
            QueryError: `forbidden` from another site.
        """
        check_same_origin(request)
        self._forget(request)
        return Response(204, {"Set-Cookie": self._set(request, "", 0)}, b"")

    def _forget(self, request: Request) -> None:
        for token in cookies(request.header("cookie"), self.cookie):
            ticket = self._tickets.find("session", token, self._mount)
            if ticket is not None:
                self._tickets.end("session", token, ticket)

    def _set(self, request: Request, token: str, seconds: int) -> str:
        # Without a Path it is the folder of this request as the browser sees it, behind any proxy.
        secure = "" if _host(request) in _LOCAL else "; Secure"
        return f"{self.cookie}={token}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def check_same_origin(request: Request) -> None:
    """Refuse what another site's page has sent.

    Raises:
        Forbidden: it is from elsewhere, or does not say from where.
    """
    site, origin = request.header("sec-fetch-site"), request.header("origin")
    if site:
        is_own = site == "same-origin"
    else:
        is_own = bool(origin) and urlsplit(origin).netloc.lower() == request.header("host").lower()
    if not is_own:
        raise Forbidden("Sign in from the page itself.")


def bearer(request: Request) -> str:
    """What `Authorization: Bearer` shows; empty for nothing."""
    given = request.header("authorization")
    return given[len(_SCHEME) :].strip() if given.lower().startswith(_SCHEME) else ""


def _host(request: Request) -> str:
    try:
        return urlsplit(f"//{request.header('host')}").hostname or ""
    except ValueError:
        return ""


#: How many cookies of one name are looked at.
_MOST_COOKIES = 4


def cookies(header: str, name: str) -> Iterable[str]:
    """The values of the cookies of one name.

    >>> list(cookies("a=1; usage_x=abc; usage_x=def", "usage_x"))
    ['abc', 'def']
    """
    pairs = (part.strip().partition("=") for part in header[:16_384].split(";"))
    return [value for found, _, value in pairs if found == name and value][:_MOST_COOKIES]


def _cookie_header(request: Any) -> str:
    """The `Cookie` header of a shell's own request."""
    if isinstance(request, dict):
        return str(request.get("HTTP_COOKIE", ""))
    return str(request.headers.get("cookie", "") or "")
