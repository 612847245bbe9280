"""`auth` says who asks. Every shell requires one, so that nothing is open by accident."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any, Literal, Self, cast

from usage_middleware.credentials import Credentials, Place
from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.headers import headers_of
from usage_middleware.report.viewer import Viewer
from usage_middleware.request_keys import wsgi_text
from usage_middleware.seen_request import EnvironRequest, ScopeRequest, SeenRequest
from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.keys import Directory, KeyInfo
from usage_middleware.store.own_keys import finding, is_async_method
from usage_middleware.web.errors import Refused

#: Gets the shell's own request: Starlette's Request, Flask's request, or a WSGI environ.
Auth = Callable[[Any], object]
Sees = Literal["org", "key"] | Callable[[KeyInfo], Viewer | None]


class Forbidden(QueryError):
    """Raised by an `auth` that knows the caller, who may not look at usage: 403."""

    def __init__(self, message: str = "You may not look at usage.") -> None:
        super().__init__("forbidden", message)


class KeyAuth:
    """An `auth` by API key.

    The usage app that it is given to tells it where keys are: in the same places as those of the requests that are counted.
    Keys of two owners in one request give None: 401. So do revoked and unknown keys alone.

    Args:
        keys: the key directory, `usage.keys`, or an object with the same methods. In ASGI its `find` may be async.
        sees: `org`: any active key sees its whole organisation; `key`: only itself; or a callable(KeyInfo) -> Viewer,
            or None for 401.
        credentials: where keys are, if it is elsewhere than `Usage(credentials=...)` says.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """

    def __init__(self, keys: Directory, sees: Sees = "org", *, credentials: Iterable[Place] | None = None) -> None:
        if isinstance(keys, (str, bytes)) or not callable(getattr(keys, "find", None)):
            raise ConfigurationError("KeyAuth needs a key directory: pass usage.keys, or an object with its methods")
        if sees not in ("org", "key") and not callable(sees):
            raise ConfigurationError(f'sees must be "org", "key" or a callable(KeyInfo) -> Viewer, not {sees!r}')
        self.keys = keys
        self._sees = sees
        self._is_told = credentials is not None
        #: Where it reads keys.
        self.credentials = Credentials(credentials)
        #: True if its answers have to be awaited.
        self.is_async = is_async_method(keys.find)

    @property
    def credential_headers(self) -> tuple[str, ...]:
        """The headers that decide who looks, in lower case."""
        return self.credentials.headers

    def reading(self, credentials: Credentials) -> Self:
        """The same, which reads keys in these places, unless it was given its own."""
        if self._is_told:
            return self
        found = copy(self)
        found.credentials = credentials
        return found

    def __call__(self, request: Any) -> Viewer | None:
        """The viewer that the request's key stands for; an awaitable of it where `find` is async."""
        secrets = _shown(self.credentials, request)
        if self.is_async:
            return cast(Viewer | None, self._awaited(secrets))
        return self._viewer_of([self._find(secret) for secret in secrets])

    async def _awaited(self, secrets: Iterable[str]) -> Viewer | None:
        found: list[KeyInfo | None] = []
        for secret in secrets:
            with finding():
                found.append(await cast(Any, self.keys.find(secret)))
        return self._viewer_of(found)

    def _find(self, secret: str) -> KeyInfo | None:
        if isinstance(self.keys, KeyDirectory):
            return self.keys.find(secret)
        with finding():
            return cast(KeyInfo | None, self.keys.find(secret))

    def shows(self, request: Any) -> bool:
        """Whether a request shows anything that may be an API key."""
        return bool(_shown(self.credentials, request))

    def key_of(self, secret: str) -> KeyInfo | None:
        """The active key with a secret."""
        info = self._find(secret)
        return info if info is not None and info.revoked_at is None else None

    def _viewer_of(self, found: Iterable[KeyInfo | None]) -> Viewer | None:
        active = [info for info in found if info is not None and info.revoked_at is None]
        owners = {(info.org, info.id) for info in active}
        return self.viewer(active[0]) if len(owners) == 1 else None

    def viewer(self, info: KeyInfo) -> Viewer | None:
        """Whom an active key stands for."""
        if callable(self._sees):
            return self._sees(info)
        # A directory that forgets the organisation raises here: a missing name must never widen the view.
        org: Any = info.org
        return Viewer.key(org, info.id) if self._sees == "key" else Viewer.organization(org)


def _shown(credentials: Credentials, request: Any) -> Sequence[str]:
    """The keys in a shell's own request."""
    scope = getattr(request, "scope", None)
    if isinstance(scope, MutableMapping):
        if credentials.only_headers:
            return credentials.in_headers(headers_of(scope))
        seen: SeenRequest = ScopeRequest(scope, scope["method"], scope["path"])
        return credentials.in_values(credentials.in_scope(scope, headers_of(scope), lambda: seen, _raise))
    environ = request if isinstance(request, dict) else getattr(request, "environ", None)
    if isinstance(environ, dict):
        asked = EnvironRequest(environ, environ.get("REQUEST_METHOD", ""), wsgi_text(environ.get("PATH_INFO", "")))
        return credentials.in_values(credentials.in_environ(environ, lambda: asked, _raise))
    headers = ((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items())
    return credentials.in_headers(headers)


def _raise() -> None:
    raise


def require_auth(auth: Auth | None, credentials: Credentials, *, may_be_async: bool = False) -> Auth:
    """The `auth` that a shell was given, checked. A `KeyAuth` is told where keys are.

    Raises:
        ConfigurationError: it is None or no callable, or async where the shell can't await.
    """
    if not callable(auth):
        raise ConfigurationError(
            "auth is required, so that usage is never open by accident: pass KeyAuth(usage.keys), "
            "or a callable that takes the request and returns a Viewer, or None for 401"
        )
    is_async = auth.is_async if isinstance(auth, KeyAuth) else is_async_method(auth)
    if is_async and not may_be_async:
        raise ConfigurationError("auth must be a plain function here: only usage_app (Starlette, FastAPI) can await it")
    return auth.reading(credentials) if isinstance(auth, KeyAuth) else auth


def places_of(auth: Auth, usual: Credentials) -> Credentials:
    """Where an `auth` reads keys: in the usual places, unless it was given its own."""
    found = getattr(auth, "credentials", usual)
    return found if isinstance(found, Credentials) else usual


def refusal(error: Exception) -> Exception:
    """A framework's own 401, 403 or 429, as an `auth` shared with the rest of the application raises it, as ours.

    It keeps the headers that it came with.
    """
    if isinstance(error, QueryError):
        return error
    status = getattr(error, "status_code", getattr(error, "code", None))
    refusals = {401: unauthenticated(), 403: Forbidden(), 429: _rate_limited()}
    found = refusals.get(status) if isinstance(status, int) else None
    return error if found is None else Refused(found.code, found.message, _headers_of(error))


def _headers_of(error: Any) -> Mapping[str, str]:
    """The headers of a framework's error: Starlette has them as `headers`, Werkzeug in a response, or `retry_after` alone."""
    given: Any = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None)
    # Werkzeug's headers have `items` too, and are no Mapping.
    found = {str(name): str(value) for name, value in given.items()} if hasattr(given, "items") else {}
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, int):
        found["Retry-After"] = str(seconds)
    return {name: value for name, value in found.items() if not name.lower().startswith(_OURS)}


#: Headers that every answer has, or that speak of the body, which is ours, or of the connection.
_OURS = (
    "access-control-", "cache-control", "connection", "content-", "etag", "last-modified", "transfer-", "vary",
    "x-content-type-options", "x-request-id",
)  # fmt: skip


def not_a_viewer(found: object) -> TypeError:
    """The error of an `auth` that returned something else than a Viewer or None: that opens nothing."""
    if inspect.iscoroutine(found):
        found.close()
    return TypeError(f"auth must return a Viewer or None, not {type(found).__name__}")


def unauthenticated() -> QueryError:
    """The error of a request without a valid API key."""
    return QueryError("unauthenticated", "Show a valid API key.")


def _rate_limited() -> QueryError:
    return QueryError("rate_limited", "Too many requests: wait a minute.")
