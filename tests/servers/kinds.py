"""Every server and type of worker of these tests: how it is started, and what it loses where nothing of ours can run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ASGI = "tests.faults.served:app"
WSGI = "tests.faults.served:wsgi"
#: The same, whose worker has something to do after an answer.
LINGERING = "tests.servers.lingering:wsgi"
#: As in docs/guides/several-workers.md: a worker that is at work ends after its request, and so with `atexit`.
GRACEFUL_UWSGI = ("--hook-master-start", "unix_signal:15 gracefully_kill_them_all")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Kind:
    """A server.

    Attributes:
        words: what starts it; `{port}` stands for the port.
        package: what has to be installed.
        environment: variables that it needs.
        lost_at_sigterm: why what is not delivered may be lost at SIGTERM; empty where nothing is.
        lost_at_ctrl_c: the same at Ctrl-C.
        may_stay: True if it now and then does not end at Ctrl-C, with or without the middleware. It goes on delivering then.
    """

    words: tuple[str, ...]
    package: str
    environment: Mapping[str, str] = field(default_factory=dict)
    lost_at_sigterm: str = ""
    lost_at_ctrl_c: str = ""
    may_stay: bool = False

    def command(self, port: int) -> list[str]:
        """What starts it on a port."""
        program = [str(Path(sys.executable).parent / "uwsgi")] if self.package == "pyuwsgi" else [sys.executable]
        return [*program, *(word.format(port=port) for word in self.words)]

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None


def _gunicorn(target: str, *options: str, package: str = "gunicorn") -> Kind:
    words = ("-m", "gunicorn", target, "--bind", "127.0.0.1:{port}", "--no-control-socket", *options)
    return Kind(words, package)


def _gthread(*options: str) -> Kind:
    words = _gunicorn(WSGI, "--workers", "2", "--threads", "4", *options).words
    # Longer than the flush interval of these tests.
    return Kind((*words, "--graceful-timeout", "120"), "gunicorn", may_stay=True)


def _uwsgi(*options: str) -> Kind:
    words = ("--http-socket", "127.0.0.1:{port}", "--wsgi", WSGI, "--master", "--die-on-term", "--need-app")
    return Kind((*words, "--enable-threads", "--py-call-osafterfork", *GRACEFUL_UWSGI, *options), "pyuwsgi")


def _uvicorn(*options: str, **environment: str) -> Kind:
    return Kind(("-m", "uvicorn", ASGI, "--port", "{port}", "--no-access-log", *options), "uvicorn", environment)


def _hypercorn(*options: str) -> Kind:
    return Kind(("-m", "hypercorn", ASGI, "--bind", "127.0.0.1:{port}", *options), "hypercorn")


def _granian(interface: str, target: str, *options: str) -> Kind:
    words = ("-m", "granian", "--interface", interface, "--port", "{port}", *options, target)
    return Kind(words, "granian", may_stay=interface == "wsgi")


#: The reloaders of Werkzeug and Django start the process that serves by `subprocess.call`.
_KILLED = "the reloader kills the process that serves"


KINDS = {
    "uvicorn": _uvicorn(),
    "uvicorn, 2 workers": _uvicorn("--workers", "2"),
    "uvicorn, reload": _uvicorn("--reload", "--reload-dir", str(HERE)),
    "uvicorn, asyncio debug mode": _uvicorn(PYTHONASYNCIODEBUG="1"),
    "hypercorn": _hypercorn(),
    "hypercorn, 2 workers": _hypercorn("--workers", "2"),
    "hypercorn, in its own process": _hypercorn("--workers", "0"),
    "granian, asgi": _granian("asgi", ASGI),
    "granian, asgi, 2 workers": _granian("asgi", ASGI, "--workers", "2"),
    "granian, wsgi": _granian("wsgi", WSGI),
    "granian, wsgi, 2 workers": _granian("wsgi", WSGI, "--workers", "2"),
    "daphne": Kind(("-m", "daphne", "--port", "{port}", ASGI), "daphne"),
    "gunicorn, sync": _gunicorn(WSGI, "--workers", "2"),
    "gunicorn, gthread": _gthread(),
    "gunicorn, gthread, preload": _gthread("--preload"),
    "gunicorn, gevent": _gunicorn(WSGI, "--workers", "2", "--worker-class", "gevent", package="gevent"),
    "gunicorn, asgi": _gunicorn(ASGI, "--workers", "2", "--worker-class", "asgi"),
    "gunicorn, uvicorn worker": _gunicorn(
        ASGI, "--workers", "2", "--worker-class", "uvicorn_worker.UvicornWorker", package="uvicorn_worker"
    ),
    "waitress": Kind(("-m", "waitress", "--listen", "127.0.0.1:{port}", WSGI), "waitress"),
    "uwsgi": _uwsgi("--processes", "2"),
    "uwsgi, lazy-apps": _uwsgi("--processes", "2", "--lazy-apps"),
    "uwsgi, threads": _uwsgi("--processes", "2", "--threads", "4"),
    "uwsgi, skip-atexit-teardown": _uwsgi("--processes", "2", "--skip-atexit-teardown"),
    "flask run": Kind(("-m", "flask", "--app", WSGI, "run", "--port", "{port}"), "flask"),
    "flask run, reload": Kind(
        ("-m", "flask", "--app", WSGI, "run", "--port", "{port}", "--reload"),
        "flask",
        lost_at_sigterm=_KILLED,
        lost_at_ctrl_c=f"{_KILLED} after a quarter of a second",
    ),
    "django runserver": Kind(
        (str(HERE / "manage.py"), "runserver", "{port}"),
        "django",
        lost_at_sigterm=_KILLED,
        lost_at_ctrl_c=f"{_KILLED} after a quarter of a second",
    ),
    "django runserver, noreload": Kind((str(HERE / "manage.py"), "runserver", "{port}", "--noreload"), "django"),
    "wsgiref": Kind((str(HERE / "plain.py"), "{port}"), "wsgiref"),
}
