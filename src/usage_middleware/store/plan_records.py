"""The history of an organisation's plans, as text in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usage_middleware.store.engine import Engine
from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema
from usage_middleware.store.swap import change_field

#: The field of the organisation itself.
ORG = "org"
#: So many organisations are asked about at once.
_PAGE = 1_000


def key_field(key: str) -> str:
    """The field of an API key, which may have a plan of its own."""
    return f"key {key}"


class PlanRecords:
    """Reads and changes what is kept of organisations' plans; organisations and keys as members."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        self._engine = engine
        self._schema = schema

    def read(self, org: str) -> dict[str, str]:
        """All fields of an organisation."""
        name = self._schema.plan(org)
        try:
            reply = self._engine.read_client.hgetall(name)
        except Exception as error:
            if not self._engine.damage.explains(error, name):
                raise
            return {}
        return {text(field): text(value) for field, value in reply.items()}

    def orgs(self, orgs: Sequence[str]) -> set[str]:
        """Those of the organisations to which a plan was ever assigned.

        Raises:
            UsageUnavailable: Redis does not answer.
        """
        found: set[str] = set()
        with self._engine.guard():
            for begin in range(0, len(orgs), _PAGE):
                some = orgs[begin : begin + _PAGE]
                with self._engine.client.pipeline(transaction=False) as pipe:
                    for org in some:
                        pipe.execute_command("EXISTS", self._schema.plan(org))
                    found.update(org for org, there in zip(some, pipe.execute(), strict=True) if there)
        return found

    def change(self, org: str, field: str, change: Callable[[str], str]) -> None:
        """Change a field; no other process's change is lost. `change` gets an empty text where there is none yet."""
        change_field(self._engine.client, self._schema.plan(org), field, change)

    def damaged(self, org: str, field: str) -> None:
        """Note that a field can't be read."""
        self._engine.damage.note(self._schema.plan(org), f"{field:.100} is no history of plans")
