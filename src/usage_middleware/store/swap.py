"""Changes a field of a hash so that no other process's change is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from usage_middleware.errors import UsageUnavailable
from usage_middleware.store.replies import text
from usage_middleware.store.script import Script

_TRIES = 50

#: Writes a field, if it is still as it was read ('': not there). ARGV: field, old, new ('': none).
_SWAP = Script("""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
""")


def change_field(client: Any, name: str, field: str, change: Callable[[str], str]) -> str:
    """Change a field of the hash `name`, and return it. `change` gets and returns an empty text where there is none.

    Raises:
        UsageUnavailable: other processes keep changing the same field.
        redis_errors(): as the client does.
    """
    for _ in range(_TRIES):
        old = client.hget(name, field) or b""
        new = change(text(old))
        if _SWAP.run(client, [name], (field, old, new)):
            return new
    raise UsageUnavailable(f"other processes keep changing {field!r:.100}; try again")
