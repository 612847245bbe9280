"""A slot of a cluster that moves from node to node, with some of its keys here and some there."""

from __future__ import annotations

import redis

from tests.support import ClusterProcess, ServerProcess


class Migration:
    """A slot on the move.

    Args:
        cluster: the cluster.
        tag: the hash tag whose slot it is.
        source: the node that has it.
        target: the node that gets it.
    """

    def __init__(self, cluster: ClusterProcess, tag: str, source: ServerProcess, target: ServerProcess) -> None:
        self._cluster = cluster
        self._source = source
        self._target = target
        self._slot = redis.crc.key_slot(tag.encode())
        self._here, self._there = (cluster.ask(node, "CLUSTER MYID") for node in (source, target))

    def begin(self) -> None:
        """From now on both nodes may have keys of it. Half of them move."""
        self._cluster.ask(self._target, "CLUSTER SETSLOT", self._slot, "IMPORTING", self._here)
        self._cluster.ask(self._source, "CLUSTER SETSLOT", self._slot, "MIGRATING", self._there)
        self._move(self._left()[::2])

    def finish(self) -> None:
        """The rest moves, and the slot with it."""
        while left := self._left():
            self._move(left)
        for node in (self._target, self._source):
            self._cluster.ask(node, "CLUSTER SETSLOT", self._slot, "NODE", self._there)

    def _left(self) -> list[bytes]:
        found: list[bytes] = self._cluster.ask(self._source, "CLUSTER GETKEYSINSLOT", self._slot, 100_000)
        return found

    def _move(self, keys: list[bytes]) -> None:
        for start in range(0, len(keys), 100):
            some = keys[start : start + 100]
            self._cluster.ask(self._source, "MIGRATE", "127.0.0.1", self._target.port, "", 0, 5000, "KEYS", *some)
