"""Final statements in Redis: written once, never changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from usage_middleware.store.driver_errors import effect, redis_errors
from usage_middleware.store.schema import Schema

logger = logging.getLogger(__name__)


class Statements:
    """Reads and keeps statements, as bytes. `client` gives the Redis client of this process."""

    def __init__(self, client: Callable[[], Any], schema: Schema) -> None:
        self._client = client
        self._schema = schema

    def read(self, org: str, starts: Sequence[int]) -> list[bytes | None]:
        """The statements of the periods that began then; None where there is none."""
        with self._client().pipeline(transaction=False) as pipe:
            for start in starts:
                pipe.execute_command("GET", self._schema.statement(org, start))
            replies = pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and effect(reply) != "fault":
                raise reply
        return [None if isinstance(reply, Exception) else reply for reply in replies]

    def kept(self, org: str, starts: Sequence[int]) -> list[bool]:
        """Whether there are statements of the periods that began then."""
        with self._client().pipeline(transaction=False) as pipe:
            for start in starts:
                pipe.execute_command("EXISTS", self._schema.statement(org, start))
            return [bool(reply) for reply in pipe.execute()]

    def keep(self, org: str, start: int, body: bytes) -> bytes | None:
        """Keep a statement, unless there is one already. The one that is kept; None if Redis can't be written."""
        client, name = self._client(), self._schema.statement(org, start)
        try:
            client.execute_command("SET", name, body, "NX")
            found: bytes | None = client.get(name)
        except redis_errors() as error:
            if effect(error) == "silent":
                raise
            logger.warning("a final statement can't be kept, and is provisional until it can: %s", error)
            return None
        return found
