"""A replica of a primary, and a sentinel that watches them."""

from __future__ import annotations

from typing import Any

from tests.support import ServerProcess, eventually

#: What the sentinel calls the primary.
SERVICE = "orders"


def sentinel(primary: ServerProcess) -> ServerProcess:
    """One that decides alone, and soon."""
    watching = ServerProcess("sentinel.conf", "--sentinel")
    (watching.folder / "sentinel.conf").touch()
    watching.arguments = (str(watching.folder / "sentinel.conf"), "--sentinel")
    watching.options = {}
    watching.start()
    with watching.client() as client:
        ask(client, "MONITOR", SERVICE, "127.0.0.1", primary.port, 1)
        for option, value in (("down-after-milliseconds", 500), ("failover-timeout", 3000)):
            ask(client, "SET", SERVICE, option, value)
    return watching


def ask(client: Any, *words: str | int) -> Any:
    """What a sentinel answers."""
    return client.execute_command("SENTINEL", *words)


def follow(replica: ServerProcess, primary: ServerProcess) -> None:
    """Have one be a replica of the other."""
    with replica.client() as client:
        client.replicaof("127.0.0.1", primary.port)
        eventually(lambda: client.info("replication").get("master_link_status") == "up")
