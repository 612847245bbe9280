"""What lies on disk is its owner's alone, whatever the umask is and whatever was there before."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import Clock, end_embedded, record_call
from usage_middleware import KeyInfo, Usage
from usage_middleware.errors import UsageUnavailable
from usage_middleware.options import DeliveryOptions, Settings
from usage_middleware.record.spool import Spool
from usage_middleware.store.embedded.server import EmbeddedServer

pytestmark = pytest.mark.slow

#: Somebody else on this machine.
STRANGER = 12_345
UMASKS = (0o000, 0o022, 0o077, 0o777)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="um-"))
    yield folder / "data"
    end_embedded(folder / "data")
    shutil.rmtree(folder)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def use(data_dir: Path) -> None:
    """Everything that puts files into a data directory: a key, a call, and one that is left in the spool."""
    with Usage(data_dir=data_dir) as usage:
        usage.keys.put("acme", KeyInfo(id="key_7", name="Search"), secret="sk_live_1")
        record_call(usage.recorder)
        assert usage.flush()
        assert_private(data_dir)


def leave(spool_directory: Path, **options: object) -> None:
    """A process that ends without Redis."""
    with Usage("unix:///nowhere/at/all", spool=spool_directory, shutdown_timeout=0.01) as usage:
        record_call(usage.recorder)


def assert_private(folder: Path) -> None:
    """Nobody but the owner has any right to the folder and what is in it; the owner may use all of it."""
    found = [folder, *folder.rglob("*")]
    assert len(found) > 1
    modes = {str(path): oct(stat.S_IMODE(path.lstat().st_mode)) for path in found}
    wanted = {str(path): oct(0o700 if path.is_dir() or path.is_socket() else 0o600) for path in found}
    assert modes == wanted


@pytest.mark.parametrize("mask", UMASKS, ids=oct)
def test_a_new_data_directory(data_dir: Path, mask: int) -> None:
    with umask(mask):
        use(data_dir)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o000], ids=oct)
def test_a_data_directory_that_was_there(data_dir: Path, mode: int) -> None:
    data_dir.mkdir()
    data_dir.chmod(mode)
    use(data_dir)


def test_files_of_a_version_that_left_them_open_are_closed(data_dir: Path) -> None:
    use(data_dir)
    for path in (data_dir, *data_dir.rglob("*")):
        path.chmod(0o777)
    use(data_dir)


def test_a_directory_with_other_files_that_others_may_only_read_keeps_its_mode(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o755)
    (data_dir / "main.py").touch(0o644)
    (data_dir / "main.py").chmod(0o644)
    with Usage(data_dir=data_dir) as usage:
        record_call(usage.recorder)
        assert usage.flush()
        open_to_others = {path.name for path in data_dir.rglob("*") if path.stat().st_mode & 0o077}
    assert (stat.S_IMODE(data_dir.stat().st_mode), open_to_others) == (0o755, {"main.py"})


@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=oct)
def test_a_directory_that_is_shared_with_others_is_refused(data_dir: Path, mode: int) -> None:
    data_dir.mkdir()
    (data_dir / "another.file").touch()
    data_dir.chmod(mode)
    with pytest.raises(UsageUnavailable, match=r"others may write to it.*a directory of its own"):
        EmbeddedServer(data_dir).join()
    assert stat.S_IMODE(data_dir.stat().st_mode) == mode


@needs_root
def test_a_directory_of_somebody_else_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, STRANGER, STRANGER)
    with pytest.raises(UsageUnavailable, match=f"it belongs to user {STRANGER}"):
        EmbeddedServer(data_dir).join()


@needs_root
@pytest.mark.parametrize("name", ["valkey.sock", "server.lock", "users.lock", "appendonlydir"])
def test_what_somebody_else_put_into_an_open_directory_is_refused(data_dir: Path, name: str) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as theirs:
        if name.endswith("sock"):
            theirs.bind(str(data_dir / name))
        else:
            (data_dir / name).mkdir() if name.endswith("dir") else (data_dir / name).touch()
        os.chown(data_dir / name, STRANGER, STRANGER)
        with pytest.raises(UsageUnavailable, match=f"{name} in it belongs to user {STRANGER}; remove it"):
            EmbeddedServer(data_dir).join()


@needs_root
def test_a_server_of_somebody_else_gets_no_command(data_dir: Path) -> None:
    with Usage(data_dir=data_dir) as usage:
        record_call(usage.recorder)
        assert usage.flush()
        own_socket = data_dir / "valkey.sock"
        own_socket.rename(data_dir / "valkey.pid.away")
        with somebody_elses(own_socket) as got:
            usage.engine._clients.clear()
            with pytest.raises(UsageUnavailable, match=f"belongs to user {STRANGER}"):
                usage.engine.client.ping()
            assert got() == b""
        own_socket.unlink()
        (data_dir / "valkey.pid.away").rename(own_socket)


@contextmanager
def somebody_elses(path: Path) -> Iterator[Callable[[], bytes]]:
    """A socket under our name that a process of somebody else listens on; what it gets, until the peer hangs up."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        # The kernel keeps who called `listen`.
        os.seteuid(STRANGER)
        listening.listen()
        os.seteuid(0)

        def got() -> bytes:
            peer, _ = listening.accept()
            with peer:
                return peer.recv(100)

        yield got


@pytest.mark.parametrize("mask", UMASKS, ids=oct)
def test_a_new_spool(data_dir: Path, mask: int) -> None:
    with umask(mask):
        leave(data_dir)
    assert_private(data_dir)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o000], ids=oct)
def test_a_spool_that_was_there(data_dir: Path, mode: int) -> None:
    data_dir.mkdir()
    data_dir.chmod(mode)
    leave(data_dir)
    assert_private(data_dir)


def test_a_spool_that_is_shared_with_others_is_named(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "another.file").touch()
    data_dir.chmod(0o777)
    found = Spool(DeliveryOptions(spool=data_dir), Settings()).why_unwritable()
    assert found.startswith(f"{data_dir}: others may write to it")


@needs_root
def test_a_spool_file_of_somebody_else_is_not_counted(data_dir: Path, redis_url: str, namespace: str, clock: Clock) -> None:
    leave(data_dir)
    (path,) = data_dir.iterdir()
    theirs = path.with_name(path.name.replace("usage.", f"{namespace}."))
    path.rename(theirs)
    os.chown(theirs, STRANGER, STRANGER)
    with Usage(redis_url, namespace=namespace, spool=data_dir, clock=clock) as usage:
        usage.recorder._flusher.recover(lambda: True, now=True)
        assert usage.recorder.stats().lost == {"spool": 1}
        assert not usage.engine.client.keys(f"{namespace}:{{acme}}:*")
        assert usage.recorder.stats().spool_damaged == 1
    assert theirs.exists()
