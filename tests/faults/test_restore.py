"""A Redis that comes back with older data: a backup of its RDB, an AOF that a power cut has torn anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.conftest import MakeWorld
from tests.faults.harness import Client, ServerWorld, Traffic, application, usage_of
from tests.faults.ledger import assert_agreement, stored
from tests.support import eventually
from usage_middleware import UsageMiddleware

#: How long acknowledged chunks are kept in the second test, in seconds.
RETAINED = 0.5


def back_up(world: ServerWorld) -> Path:
    """A copy of what Redis has now."""
    with world.traffic.paused(), world.admin() as admin:
        eventually(world.usage.flush)
        admin.save()
    return Path(shutil.copy(world.server.folder / "dump.rdb", world.server.folder / "backup.rdb"))


def restore(world: ServerWorld, backup: Path) -> None:
    """Redis dies, and comes back with the backup."""
    world.server.kill()
    world.is_away()
    shutil.copy(backup, world.server.folder / "dump.rdb")
    world.server.start()
    world.is_back()


def test_a_backup_of_some_seconds_ago_is_restored(make_world: MakeWorld) -> None:
    """All that came since is sent again, once."""
    world = make_world()
    backup = back_up(world)
    world.traffic.go_on(200)
    eventually(world.usage.flush)
    restore(world, backup)
    world.check()


def test_a_backup_of_before_a_worker_began_is_restored(make_world: MakeWorld) -> None:
    """A new worker counts for organisations that others have counted for: all of it is sent again."""
    world = make_world()
    backup = back_up(world)
    with usage_of(world.proxy.url, world.namespace) as newcomer:
        app = UsageMiddleware(application(), newcomer)
        traffic = Traffic(Client(app, world.ledger, seed=2))
        traffic.start()
        traffic.go_on(100)
        traffic.stop()
        eventually(newcomer.flush)
        restore(world, backup)
        eventually(lambda: newcomer.recorder.stats().state == "ok" and newcomer.flush())
    world.check()


def test_an_older_backup_is_restored(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than the chunks that are kept is lost, nothing is doubled, and each organisation's counters agree."""
    monkeypatch.setattr("usage_middleware.record.chunk_sender.RETAINED_SECONDS", RETAINED)
    monkeypatch.setattr("usage_middleware.record.outbox.RETAINED_SECONDS", RETAINED)
    world = make_world()
    backup = back_up(world)
    kept = len(world.ledger)
    world.traffic.go_on_for(3 * RETAINED)
    restore(world, backup)
    after = len(world.ledger)
    world.traffic.go_on()
    world.finish_abandoned()
    with world.client() as client:
        facts = stored(client, world.namespace)
        counted = sum(calls for place, calls in facts.items() if place[0] != "*" and place[1:] == DAYS)
        assert kept + len(world.ledger) - after <= counted < len(world.ledger)
        assert_agreement(client, world.namespace, across_trees=False)


DAYS = ("1d", "series", "", "calls")


@pytest.mark.parametrize("share", [0.1, 0.37, 0.5, 0.93])
def test_a_power_cut_tears_the_aof_anywhere(make_world: MakeWorld, share: float) -> None:
    """A chunk is in the file wholly or not at all: what is torn is sent again."""
    world = make_world(server={"appendonly": "yes", "appendfsync": "everysec", "auto_aof_rewrite_percentage": 0})
    file = next(Path(world.server.folder, "appendonlydir").glob("*.incr.aof"))
    before = file.stat().st_size
    world.traffic.go_on(200)
    eventually(world.usage.flush)
    world.server.kill()
    with file.open("r+b") as log:
        log.truncate(before + int((file.stat().st_size - before) * share))
    world.server.start()
    world.check()
