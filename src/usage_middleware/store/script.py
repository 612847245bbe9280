"""A Lua script that Redis keeps: it is sent once, and called by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any


class Script:
    """A script. Redis forgets it when it restarts; then it is sent again.

    Attributes:
        sha: its hash, which names it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        """What the script returns.

        Raises:
            redis_errors(): as the client does.
        """
        from redis.exceptions import NoScriptError

        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", self._text, len(keys), *keys, *arguments)
