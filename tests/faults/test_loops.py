"""Event loops that end and begin again, threads and child processes: calls are counted whoever makes them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from tests.faults.harness import Client, application, identify, put_keys
from tests.faults.ledger import Call, Ledger, assert_equal
from tests.support import ServerProcess, eventually
from usage_middleware import Usage, UsageMiddleware

MakeUsage = Callable[..., Usage]
CALLS = 100


@pytest.fixture
def usage(make_usage: MakeUsage) -> Usage:
    found = make_usage(identify=identify, flush_interval=0.01)
    put_keys(found)
    return found


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def check(usage: Usage, server: ServerProcess, ledger: Ledger) -> None:
    eventually(usage.flush)
    assert len(ledger) > 0
    with server.client() as client:
        assert_equal(client, usage.settings.namespace, ledger)


async def call(client: Client, times: int = CALLS) -> None:
    for _ in range(times):
        await client.call()


def test_asyncio_run_twice(usage: Usage, server: ServerProcess, ledger: Ledger) -> None:
    client = Client(UsageMiddleware(application(), usage), ledger)
    for _ in range(3):
        asyncio.run(call(client))
    check(usage, server, ledger)


def test_the_test_client_with_and_without_its_lifespan(usage: Usage, server: ServerProcess, ledger: Ledger) -> None:
    app = UsageMiddleware(application(), usage)
    for _ in range(3):
        with TestClient(app) as client:
            assert client.get("/items/7", headers={"x-org": "acme", "x-key": "key_1"}).status_code == 200
            ledger.add(Call("acme", "key_1", "GET /items/{item}", 200))
        assert TestClient(app).post("/items", headers={"x-org": "acme", "x-key": "key_2"}).status_code == 201
        ledger.add(Call("acme", "key_2", "POST /items", 201))
    check(usage, server, ledger)


def test_a_loop_in_each_of_many_threads(usage: Usage, server: ServerProcess, ledger: Ledger) -> None:
    app = UsageMiddleware(application(), usage)
    clients = [Client(app, ledger, seed) for seed in range(6)]
    threads = [threading.Thread(target=lambda client=client: asyncio.run(call(client))) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(usage, server, ledger)


def test_many_tasks_some_of_them_cancelled(usage: Usage, server: ServerProcess, ledger: Ledger) -> None:
    """A task that is cancelled before its request began counts nothing; the others count as ever."""
    client = Client(UsageMiddleware(application(), usage), ledger)

    async def crowd() -> None:
        tasks = [asyncio.create_task(call(client, 5)) for _ in range(40)]
        for task in tasks[::4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(crowd())
    assert len(ledger) == 150
    check(usage, server, ledger)


_PROGRAM = """
    import os, sys
    from tests.faults.harness import Client, application, put_keys, usage_of
    from tests.faults.ledger import Ledger, line
    from usage_middleware import UsageMiddleware

    usage = usage_of(sys.argv[1], sys.argv[2], flush_interval=0.02)
    app = UsageMiddleware(application(), usage)
    put_keys(usage)

    def answered(ledger):
        text = "".join(line(call) + chr(10) for call, times in ledger.calls.items() for _ in range(times))
        os.write(1, text.encode())
"""


def run(program: str, server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    """Run a program that writes what it was answered, a line a call."""
    code = textwrap.dedent(_PROGRAM) + textwrap.dedent(program)
    command = [sys.executable, "-W", "error", "-c", code, server.url, namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    ledger.add_lines(done.stdout.splitlines())
    assert len(ledger) > 0
    with server.client() as client:
        assert_equal(client, namespace, ledger)


def test_forks_in_the_middle_of_traffic(server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    run(
        """
        from tests.faults.harness import Traffic

        ours = Ledger()
        traffic = Traffic(Client(app, ours), pause=0.0)
        traffic.start()
        children = []
        for number in range(8):
            traffic.go_on(30)
            pid = os.fork()
            if pid == 0:
                theirs = Ledger()
                mine = Traffic(Client(app, theirs, seed=number), pause=0.0)
                mine.start()
                mine.go_on(60)
                mine.stop()
                usage.close()
                answered(theirs)
                os._exit(0)
            children.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        traffic.stop()
        usage.close()
        answered(ours)
        """,
        server,
        namespace,
        ledger,
    )


def test_subprocesses_and_workers_of_multiprocessing(server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    run(
        """
        import asyncio, multiprocessing

        def work(seed):
            theirs = Ledger()
            client = Client(app, theirs, seed)

            async def call():
                for _ in range(50):
                    await client.call()

            asyncio.run(call())
            answered(theirs)

        work(0)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=work, args=(seed,)) for seed in range(4)]
        for child in children:
            child.start()
        work(5)
        for child in children:
            child.join()
            assert child.exitcode == 0
        with context.Pool(2) as pool:
            pool.map(work, range(4))
            pool.close()
            pool.join()
        """,
        server,
        namespace,
        ledger,
    )


def test_gevent(server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    pytest.importorskip("gevent", exc_type=ImportError)
    program = """
        from gevent import monkey
        monkey.patch_all()
        import os, sys, io
        import gevent
        from flask import Flask
        from tests.faults.harness import identify, put_keys, usage_of
        from tests.faults.ledger import Call, Ledger, line
        from usage_middleware import WSGIUsageMiddleware

        usage = usage_of(sys.argv[1], sys.argv[2], flush_interval=0.02)
        put_keys(usage)
        flask, ledger = Flask("app"), Ledger()

        @flask.get("/items/<item>")
        def item(item):
            gevent.sleep(0.001)
            return "found"

        app = WSGIUsageMiddleware(flask.wsgi_app, usage)

        def call(number):
            statuses = []
            environ = {
                "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": f"/items/{number}", "QUERY_STRING": "",
                "SERVER_NAME": "test", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": True,
                "wsgi.multiprocess": False, "wsgi.run_once": False, "HTTP_X_ORG": "acme", "HTTP_X_KEY": "key_1",
            }
            body = app(environ, lambda status, headers, error=None: statuses.append(int(status[:3])))
            for _ in body:
                pass
            getattr(body, "close", lambda: None)()
            ledger.add(Call("acme", "key_1", "GET /items/{item}", statuses[0]))

        for _ in range(5):
            gevent.joinall([gevent.spawn(call, number) for number in range(40)], raise_error=True)
        usage.close()
        print("".join(line(call) + chr(10) for call, times in ledger.calls.items() for _ in range(times)), end="")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), server.url, namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    ledger.add_lines(done.stdout.splitlines())
    assert len(ledger) == 200
    with server.client() as client:
        assert_equal(client, namespace, ledger)


def test_forks_that_python_is_not_told_of(server: ServerProcess, namespace: str, ledger: Ledger) -> None:
    """As a server in C makes them (uWSGI without `py-call-osafterfork`): the children must not go by one name."""
    run(
        """
        import asyncio, ctypes

        fork = ctypes.PyDLL(None).fork

        async def call(mine, seed):
            client = Client(app, mine, seed)
            for _ in range(40):
                await client.call()

        children = []
        for number in range(3):
            pid = fork()
            if pid == 0:
                theirs = Ledger()
                for _ in range(3):
                    asyncio.run(call(theirs, number))
                    assert usage.flush()
                usage.close()
                answered(theirs)
                os._exit(0)
            children.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        """,
        server,
        namespace,
        ledger,
    )
