"""What a browser shows in place of an API key. Redis holds it under its hash: nobody who reads Redis can show one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from usage_middleware.store.schema import Schema
from usage_middleware.store.script import Script

#: A `session` belongs to a cookie, an `embed` ticket to a page inside of another site's page.
Kind = Literal["session", "embed"]
#: 256 bits, as base64url.
_TOKEN_BYTES = 32
#: Nothing longer is looked for.
_MOST = 100
#: So many tickets of a kind one caller has at a usage app: who signs in again and again must not fill Redis.
MOST_TICKETS: dict[Kind, int] = {"session": 200, "embed": 2_000}

#: Keeps a ticket. Those of the same caller are in an index by when they end; beyond so many the first to end is ended now.
#: KEYS: the ticket, the index. ARGV: the ticket, for how many seconds, how many there may be, what ticket keys begin with,
#: the end of this one's. An index of another type than ours is made anew.
_ISSUE = Script("""
local time, seconds = redis.call('TIME'), tonumber(ARGV[2])
local now = time[1] + time[2] / 1000000
local old = redis.pcall('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.17g', now))
if type(old) == 'table' then redis.call('DEL', KEYS[2]) end
local surplus = redis.call('ZCARD', KEYS[2]) + 1 - tonumber(ARGV[3])
if surplus > 0 then
  local ended = redis.call('ZPOPMIN', KEYS[2], surplus)
  for i = 1, #ended, 2 do redis.call('DEL', ARGV[4] .. ended[i]) end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', seconds)
redis.call('ZADD', KEYS[2], string.format('%.17g', now + seconds), ARGV[5])
if redis.call('PTTL', KEYS[2]) < seconds * 1000 then redis.call('PEXPIRE', KEYS[2], seconds * 1000) end
return 1
""")


class Ticket(msgspec.Struct, frozen=True):
    """Whom a token stands for.

    Attributes:
        org: the organisation, as the application calls it.
        key: the id of the API key that signed in, or the only one that is seen; None: no key.
        mount: the name of the only usage app that takes it.
        origin: the page around it; None of a session.
    """

    org: str
    key: str | None
    mount: str
    origin: str | None = None


_decode = msgspec.json.Decoder(Ticket).decode


class Tickets:
    """The tickets in Redis. Each dies by itself. `client` gives the Redis client of this process.

    Every method raises `redis_errors()` where Redis does not answer.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema) -> None:
        self._client = client
        self._schema = schema

    def issue(self, kind: Kind, ticket: Ticket, seconds: int) -> str:
        """A new token, which is good for so many seconds."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        keys = [self._key(kind, token), self._index(kind, ticket)]
        arguments = msgspec.json.encode(ticket), seconds, MOST_TICKETS[kind], self._schema.ticket(kind, ""), _digest(token)
        _ISSUE.run(self._client(), keys, arguments)
        return token

    def find(self, kind: Kind, token: str, mount: str) -> Ticket | None:
        """The ticket of a token; None if there is none, it is over, another mount's, or damaged."""
        raw = self._client().get(self._key(kind, token)) if 0 < len(token) <= _MOST else None
        try:
            found = None if raw is None else _decode(raw)
        except msgspec.DecodeError:
            return None
        return found if found is not None and found.mount == mount else None

    def end(self, kind: Kind, token: str, ticket: Ticket) -> None:
        """Make a token worthless, which stands for this ticket."""
        client = self._client()
        client.delete(self._key(kind, token))
        client.zrem(self._index(kind, ticket), _digest(token))

    def _key(self, kind: Kind, token: str) -> str:
        return self._schema.ticket(kind, _digest(token))

    def _index(self, kind: Kind, ticket: Ticket) -> str:
        """The tickets of the same caller at the same usage app."""
        return self._schema.ticket(kind, f"of:{_digest(ascii((ticket.org, ticket.key, ticket.mount)))}")


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
