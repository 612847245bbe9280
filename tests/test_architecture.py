"""The house of the package, held by its imports: five rooms, data flowing one way, two halves that never meet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import usage_middleware

ROOT = Path(usage_middleware.__file__).parent
PACKAGE = "usage_middleware"

#: What every room may know.
SHARED = {
    "authorization",
    "errors",
    "events",
    "request_keys",
    "gil",
    "interpreter",
    "lazily",
    "options",
    "option_names",
    "periods",
    "latency",
    "credentials",
    "fork",
    "seen_request",
    "headers",
    "signals",
}
WRITE_STORE = {"store.chunk", "store.rollup", "store.payload", "store.writer"}
READ_STORE = {
    "store.answer_cache",
    "store.block_reads",
    "store.minute_reads",
    "store.reader",
    "store.reads",
    "store.replies",
    "store.read_batch",
}

FRAMEWORKS = {"starlette", "fastapi", "flask", "werkzeug", "django", "litestar", "quart", "falcon", "bottle", "asgiref"}
FRAMEWORKS |= {"pyramid", "connexion", "datasette", "a2wsgi", "rest_framework"}
MAY_BE_ASYNC = {"capture.asgi", "web.starlette", "web.auth"}
#: Hooks in applications of ASGI, and what stands between one and us.
MAY_BE_ASYNC_ROOMS = ("capture.frameworks.", "integrations.")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module's name below the package, and its syntax tree."""
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text())


MODULES = dict(modules())


def imports(name: str, *, own: bool) -> set[str]:
    """What a module imports when it runs: our own modules below the package, or the top names of others'."""
    found: set[str] = set()
    for node in ast.walk(_without_type_checking(MODULES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    if own:
        return {_module(dotted) for dotted in found if dotted.startswith(f"{PACKAGE}.")}
    return {dotted.split(".")[0] for dotted in found} - {PACKAGE}


def _module(dotted: str) -> str:
    below = dotted.removeprefix(f"{PACKAGE}.")
    while below not in MODULES and "." in below:
        below = below.rpartition(".")[0]
    return below


def _without_type_checking(tree: ast.Module) -> ast.Module:
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body, [])


def room(name: str) -> str:
    """The room that a module stands in."""
    return name.split(".")[0]


def in_rooms(*rooms: str) -> list[str]:
    """The modules of some rooms."""
    return [name for name in MODULES if room(name) in rooms]


@pytest.mark.parametrize("name", [*in_rooms("capture", "record"), *sorted(WRITE_STORE)])
def test_the_write_half_knows_nothing_of_the_read_half(name: str) -> None:
    known = imports(name, own=True)
    assert not {one for one in known if room(one) in ("report", "web", "usage")} | (known & READ_STORE)


@pytest.mark.parametrize("name", [*in_rooms("report", "web"), *sorted(READ_STORE)])
def test_the_read_half_knows_nothing_of_the_write_half(name: str) -> None:
    known = imports(name, own=True)
    assert not {one for one in known if room(one) in ("capture", "record", "usage")} | (known & WRITE_STORE)


@pytest.mark.parametrize("name", in_rooms("capture"))
def test_capture_knows_of_redis_only_how_names_are_written(name: str) -> None:
    assert imports(name, own=True) - SHARED <= {"store.members", "store.schema", *in_rooms("capture")}


@pytest.mark.parametrize("name", in_rooms("store"))
def test_the_store_knows_no_other_room(name: str) -> None:
    assert imports(name, own=True) <= SHARED | set(in_rooms("store"))


@pytest.mark.parametrize("name", in_rooms("alerts"))
def test_alerts_read_through_reports(name: str) -> None:
    known = imports(name, own=True)
    assert not {one for one in known if room(one) in ("capture", "record", "web", "usage")} | (
        known & (READ_STORE | WRITE_STORE)
    )


@pytest.mark.parametrize("name", in_rooms("capture", "record", "store", "report", "web", "plans"))
def test_nobody_needs_alerts(name: str) -> None:
    assert not {one for one in imports(name, own=True) if room(one) == "alerts"}


@pytest.mark.parametrize("name", in_rooms("plans"))
def test_plans_are_pure(name: str) -> None:
    assert imports(name, own=True) <= SHARED | set(in_rooms("plans"))
    assert not imports(name, own=False) & {"time", "threading", "socket"}


@pytest.mark.parametrize("name", in_rooms("report"))
def test_reports_know_no_http(name: str) -> None:
    assert not {one for one in imports(name, own=True) if room(one) == "web"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(in_rooms("integrations"))))
def test_nobody_but_the_host_imports_an_integration(name: str) -> None:
    assert not {one for one in imports(name, own=True) if room(one) == "integrations"}


@pytest.mark.parametrize("name", in_rooms("capture", "record", "store", "report"))
def test_only_the_shells_know_a_framework(name: str) -> None:
    assert not imports(name, own=False) & FRAMEWORKS


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(in_rooms("store"))))
def test_only_the_store_knows_the_driver(name: str) -> None:
    assert "redis" not in imports(name, own=False)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"store.connect"}))
def test_only_the_connection_imports_the_driver_at_the_top(name: str) -> None:
    at_the_top = [ast.unparse(node) for node in MODULES[name].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [line for line in at_the_top if line.split()[1].split(".")[0] == "redis"]


@pytest.mark.parametrize(
    "name", sorted(name for name in MODULES if name not in MAY_BE_ASYNC and not name.startswith(MAY_BE_ASYNC_ROOMS))
)
def test_only_what_meets_asgi_is_async(name: str) -> None:
    assert not [node.lineno for node in ast.walk(MODULES[name]) if isinstance(node, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"store.schema"}))
def test_key_names_are_written_in_one_place(name: str) -> None:
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(MODULES[name]) if isinstance(node, _DOCUMENTED)}
    texts = [node.value for node in ast.walk(MODULES[name]) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    marks = (":series:", ":board:", ":seen:", ":applied:", ":worker:", ":cache:")
    assert not [text for text in texts if text not in docs and any(mark in text for mark in marks)]


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def functions() -> list[tuple[str, int]]:
    """Every function, and how many lines it has without its docstring."""
    return [
        (f"{name}:{node.name}", _lines(node))
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or first.lineno) - first.lineno + 2


def test_functions_fit_on_a_screen() -> None:
    sizes = functions()
    assert median(lines for _, lines in sizes) <= 9
    assert not [(name, lines) for name, lines in sizes if lines > 50]
    assert sum(lines > 30 for _, lines in sizes) <= len(sizes) // 50


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.name)
def test_modules_have_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_no_room_imports_in_circles() -> None:
    order = ["capture", "record", "store", "report", "web"]
    flows = {(room(name), room(one)) for name in in_rooms(*order) for one in imports(name, own=True) if room(one) in order}
    backwards = {(begin, end) for begin, end in flows if begin == "store" and end != "store"}
    assert not backwards
    assert ("report", "store") in flows
    assert ("record", "store") in flows


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(MODULES[name])
