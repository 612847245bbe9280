"""The options of the usage app, the same for every shell, checked once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias, TypedDict

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import check_plain_function
from usage_middleware.report.embed import is_origin
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.admission import Rate

#: `"300/minute"`, or several: `"10/second, 300/minute"`; None: no limit.
Limit: TypeAlias = str | None
OnAccess: TypeAlias = Callable[[Viewer | None, str | None, int], object]

DEFAULT_LIMIT = "300/minute"
#: Beyond it, the time between two requests is less than Redis' clock can tell.
MOST_A_SECOND = 1_000_000
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,8})\s*/\s*(second|minute|hour|day)")


class ViewOptions(TypedDict, total=False):
    """What every way to mount the usage API takes beside `auth` and `name`.

    Attributes:
        cache_seconds: seconds that Redis keeps an answer; 0: none is kept.
        limit: how often one viewer may ask, for instance `"300/minute"`; a callable(viewer) that returns that; None: as often
            as it likes.
        limit_by_plan: the limit of viewers by the plan of their organisation: `{"free": "60/minute", "enterprise": None}`; of
            other plans, and without one, `limit`.
        client_address: callable(request) -> the address of the client, for the limit on refused credentials; None: that of
            the connection.
        allow_origins: the origins whose pages may ask from a browser (CORS), for instance `["https://console.example.com"]`.
        allow_credentials: whether those pages may send cookies.
        on_access: callable(viewer, view, status), after every request; None for a viewer that is not known, and for a path
            that is none.
        embed_origins: the origins whose pages may show `/dashboard?embed=1` in a frame, with a token of
            `usage.reader.embed_token`.
    """

    cache_seconds: int
    limit: Limit | Callable[[Viewer], Limit]
    limit_by_plan: Mapping[str, Limit]
    client_address: Callable[[Any], str | None] | None
    allow_origins: Sequence[str]
    allow_credentials: bool
    on_access: OnAccess | None
    embed_origins: Sequence[str]


class UsageAppOptions(ViewOptions, total=False):
    """As `ViewOptions`, and the name of the usage app: `BrowserAuth` and embed tokens need one, different for each mount.

    Attributes:
        name: two usage apps of one name take each other's cookies and tokens.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """The options of a usage app, checked. `UsageAppOptions` and `ViewOptions` describe each.

    Raises:
        ConfigurationError: naming the option and what is allowed.
    """

    cache_seconds: int = 60
    limit: Limit | Callable[[Viewer], Limit] = DEFAULT_LIMIT
    limit_by_plan: Mapping[str, Limit] = field(default_factory=dict)
    client_address: Callable[[Any], str | None] | None = None
    allow_origins: Sequence[str] = ()
    allow_credentials: bool = False
    on_access: OnAccess | None = None
    embed_origins: Sequence[str] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigurationError(f'name must be a text such as "customers", not {self.name!r}')
        seconds: object = self.cache_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
            raise ConfigurationError(f"cache_seconds must be a whole number, 0 for no cache, not {seconds!r}")
        check_plain_function("client_address", self.client_address)
        check_plain_function("on_access", self.on_access)
        if callable(self.limit):
            check_plain_function("limit", self.limit)
        else:
            rates_of(self.limit)
        _check_limits(self.limit_by_plan)
        _check_origins("allow_origins", self.allow_origins)
        _check_credentials(self.allow_origins, self.allow_credentials)
        _check_origins("embed_origins", self.embed_origins)
        if self.embed_origins and not self.name:
            raise ConfigurationError('embed_origins needs a name of the usage app, such as name="customers"')

    def rates(self, viewer: Viewer, plan: Callable[[str], str | None] = lambda _: None) -> tuple[Rate, ...]:
        """The limits of a viewer. `plan` tells which plan an organisation has."""
        name = plan(viewer.org) if self.limit_by_plan and viewer.org is not None else None
        if name is not None and name in self.limit_by_plan:
            return rates_of(self.limit_by_plan[name])
        return rates_of(self.limit(viewer) if callable(self.limit) else self.limit)


def _check_limits(limits: object) -> None:
    if not isinstance(limits, Mapping):
        raise ConfigurationError(f'limit_by_plan must be a dict such as {{"free": "60/minute"}}, not {limits!r}')
    for limit in limits.values():
        rates_of(limit)


def rates_of(limit: Limit) -> tuple[Rate, ...]:
    """The rates that a limit names.

    >>> rates_of("10/second, 300/minute")
    (Rate(requests=10, seconds=1), Rate(requests=300, seconds=60))
    """
    if limit is None:
        return ()
    rates = _rates(limit) if isinstance(limit, str) else ()
    if not rates:
        raise ConfigurationError(
            f'limit must be None or a number a second, minute, hour or day, such as "300/minute", not {limit!r}'
        )
    return rates


@lru_cache(maxsize=256)
def _rates(limit: str) -> tuple[Rate, ...]:
    """The rates; none where one of them is no rate."""
    found = [_RATE.fullmatch(part.strip()) for part in limit.split(",")]
    rates = [Rate(int(one[1]), _SECONDS[one[2]]) for one in found if one is not None]
    possible = len(rates) == len(found) and all(rate.requests <= MOST_A_SECOND * rate.seconds for rate in rates)
    return tuple(rates) if possible else ()


def _check_origins(option: str, origins: object) -> None:
    if isinstance(origins, str) or not isinstance(origins, Sequence):
        raise ConfigurationError(f'{option} must be a list such as ["https://console.example.com"], not {origins!r}')
    for origin in origins:
        if not is_origin(origin):
            raise ConfigurationError(
                f"{option} must hold exact origins as browsers send them, in lower case, without a path or `*`, such as "
                f'"https://console.example.com", not {origin!r}'
            )


def _check_credentials(origins: Sequence[str], allow_credentials: object) -> None:
    if not isinstance(allow_credentials, bool):
        raise ConfigurationError(f"allow_credentials must be True or False, not {allow_credentials!r}")
    if allow_credentials and not origins:
        raise ConfigurationError("allow_credentials is about the pages of allow_origins, which is empty")
