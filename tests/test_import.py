"""What `import usage_middleware` loads: no driver, no framework; redis-py comes with the first connection."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support import ServerProcess

FRAMEWORKS = (
    *("starlette", "fastapi", "flask", "werkzeug", "django", "litestar", "quart", "falcon", "bottle", "asgiref"),
    *("pyramid", "connexion", "datasette", "a2wsgi", "rest_framework"),
)
#: What sends webhooks and asks over HTTP.
WITH_FIRST_USE = ("usage_middleware.alerts.https", "http.client", "urllib.request")


def run(script: str, *arguments: str) -> str:
    """What a script prints in a fresh interpreter that finds the same packages; it must end well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("USAGE_REDIS_URL", None)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, check=True, timeout=60, env=environment, stdout=subprocess.PIPE, text=True).stdout


def test_redis_is_imported_by_the_first_connection(tmp_path: Path, server: ServerProcess) -> None:
    run(
        f"""
        import sys
        import usage_middleware
        from usage_middleware import Usage, UsageMiddleware, WSGIUsageMiddleware

        usages = [Usage("redis://localhost"), Usage(data_dir=sys.argv[1]), Usage(sys.argv[2])]
        for usage in usages:
            UsageMiddleware(print, usage=usage), WSGIUsageMiddleware(print, usage)
        loaded = {{"redis", "opentelemetry", *{WITH_FIRST_USE!r}, *{FRAMEWORKS!r}}} & set(sys.modules)
        assert not loaded, loaded
        assert usages[2].engine.client.ping()
        assert "redis" in sys.modules
        """,
        str(tmp_path),
        server.url,
    )


@pytest.mark.slow
def test_tls_is_imported_by_the_first_webhook() -> None:
    run(
        """
        import sys
        sys.modules["ssl"] = None  # An import of it fails. That of asyncio, which is done without it then, does not.
        from usage_middleware import Plan, Quota, Usage, Webhook

        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjk="
        hook = Webhook("https://hooks.example", secret)
        Usage("redis://localhost", plans=[Plan("free", Quota("calls", 1))], default_plan="free", on_alert=hook)
        try:
            hook(None)
        except ImportError as error:
            assert "ssl" in str(error)
        else:
            raise AssertionError
        """
    )


@pytest.mark.slow
def test_the_web_app_imports_redis_no_sooner() -> None:
    run(
        """
        import sys
        from usage_middleware import Usage
        from usage_middleware.web import KeyAuth, usage_app, usage_wsgi_app

        usage = Usage("redis://localhost")
        for make in usage_app, usage_wsgi_app:
            make(usage, auth=KeyAuth(usage.keys))
        assert "redis" not in sys.modules
        """
    )


def test_a_fork_waits_for_an_import_of_redis(server: ServerProcess) -> None:
    run(
        """
        import os, sys, threading
        from usage_middleware.store.engine import Engine

        class Slow:
            begun, may_end = threading.Event(), threading.Event()

            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name == "redis":
                    cls.begun.set()
                    cls.may_end.wait()

        sys.meta_path.insert(0, Slow)
        engine = Engine(sys.argv[1])
        thread = threading.Thread(target=lambda: engine.client)
        thread.start()
        Slow.begun.wait()
        os.register_at_fork(before=Slow.may_end.set)
        child = os.fork()
        assert engine.client.ping()
        if child:
            thread.join()
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
        server.url,
    )


def test_the_first_connection_may_be_made_at_the_end_of_the_interpreter(server: ServerProcess) -> None:
    printed = run(
        """
        import atexit, sys
        from usage_middleware.store.engine import Engine

        engine = Engine(sys.argv[1])
        atexit.register(lambda: print(engine.client.ping()))
        """,
        server.url,
    )
    assert printed == "True\n"
