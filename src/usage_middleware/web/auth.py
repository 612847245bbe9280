"""`auth` says who asks. Every shell requires one, so that nothing is open by accident."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from usage_middleware import credentials
from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.keys import Directory, KeyInfo
from usage_middleware.web.errors import Refused

#: Gets the shell's own request: Starlette's Request, Flask's request, or a WSGI environ.
Auth = Callable[[Any], object]
Sees = Literal["org", "key"] | Callable[[KeyInfo], Viewer | None]


class Forbidden(QueryError):
    """Raised by an `auth` that knows the caller, who may not look at usage: 403."""

    def __init__(self, message: str = "You may not look at usage.") -> None:
        super().__init__("forbidden", message)


class KeyAuth:
    """An `auth` by API key: the credential is read from the same headers as those of the requests that are counted.

    Args:
        keys: the key directory, `usage.keys`, or an object with the same methods.
        sees: `org`: any active key sees its whole organisation; `key`: only itself; or a callable(KeyInfo) -> Viewer,
            or None for 401.

    A revoked or unknown key gives None: 401.
    """

    def __init__(self, keys: Directory, sees: Sees = "org") -> None:
        if isinstance(keys, (str, bytes)) or not callable(getattr(keys, "find", None)):
            raise ConfigurationError("KeyAuth needs a key directory: pass usage.keys, or an object with its methods")
        if sees not in ("org", "key") and not callable(sees):
            raise ConfigurationError(f'sees must be "org", "key" or a callable(KeyInfo) -> Viewer, not {sees!r}')
        self._keys = keys
        self._sees = sees

    def __call__(self, request: Any) -> Viewer | None:
        """The viewer that the request's key stands for."""
        secret = credentials.from_headers(_header_of(request))
        info = None if secret is None else self._keys.find(secret)
        return None if info is None or info.revoked_at is not None else self._viewer(info)

    def _viewer(self, info: KeyInfo) -> Viewer | None:
        if callable(self._sees):
            return self._sees(info)
        # A directory that forgets the organisation raises here: a missing name must never widen the view.
        org: Any = info.org
        return Viewer.key(org, info.id) if self._sees == "key" else Viewer.organization(org)


def _header_of(request: Any) -> Callable[[str], str | None]:
    if isinstance(request, Mapping) and "wsgi.version" in request:
        return lambda name: request.get(f"HTTP_{name.upper().replace('-', '_')}")
    get: Callable[[str], str | None] = request.headers.get
    return get


def require_auth(auth: Auth | None, *, may_be_async: bool = False) -> Auth:
    """The `auth` that a shell was given, checked.

    Raises:
        ConfigurationError: it is None or no callable, or async where the shell can't await.
    """
    if not callable(auth):
        raise ConfigurationError(
            "auth is required, so that usage is never open by accident: pass KeyAuth(usage.keys), "
            "or a callable that takes the request and returns a Viewer, or None for 401"
        )
    if not may_be_async and (inspect.iscoroutinefunction(auth) or inspect.iscoroutinefunction(type(auth).__call__)):
        raise ConfigurationError("auth must be a plain function here: only usage_app (Starlette, FastAPI) can await it")
    return auth


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
        found.setdefault("Retry-After", str(seconds))
    return {name: value for name, value in found.items() if not name.lower().startswith(_OF_ITS_BODY)}


#: Headers that speak of the body, which is ours, or of the connection.
_OF_ITS_BODY = ("content-", "transfer-", "connection", "etag", "last-modified")


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
