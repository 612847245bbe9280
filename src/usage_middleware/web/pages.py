"""What answers under one path, and the request that it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from usage_middleware.report.viewer import Viewer
from usage_middleware.web.auth import unauthenticated
from usage_middleware.web.http import Request, Response

#: Browsers keep nothing that they may show to somebody else, and ask again each time.
PRIVATE = "private, no-cache"


@dataclass(slots=True)
class Visit:
    """A request to a page.

    Attributes:
        authenticated: who looks, once that is known.
        headers: what the answer carries whatever comes of it, an error too.
        framed_by: the page around it, where it was asked with an embed token.
    """

    request: Request
    request_id: str
    authenticated: Viewer | None = None
    headers: dict[str, str] = field(default_factory=dict)
    framed_by: str | None = None

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
        name: what `on_access` is told.
        is_public: everybody may look, without `auth`.
        is_open: says of a request that anybody may send it.
        methods: what it answers; None: GET and HEAD.
        is_attempt: what it refuses as unauthenticated counts as an attempt to sign in.
        cache_control: of an answer; errors are always private.
        error_fields: what its errors carry beside the envelope.
        refused: makes another answer of an error, for people.
    """

    answer: Callable[[Visit], Response]
    name: str = ""
    is_public: bool = False
    cache_control: str = PRIVATE
    error_fields: Mapping[str, object] = MappingProxyType({})
    is_open: Callable[[Request], bool] = lambda _: False
    methods: tuple[str, ...] | None = None
    is_attempt: bool = False
    refused: Callable[[Visit, Response], Response] | None = None
