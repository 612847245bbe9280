"""Every block of code in the documentation is run, or at least checked."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, Block, Run, blocks, name_of, pages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SCRIPT = (ROOT / "run").read_text("utf-8")
CHECKED_HERE = {"python", "console", "json", "yaml", "ini", "dockerfile"}
#: `redis` is compared with what is written by `test_schema_doc.py`; `text` is no code.
CHECKED_ELSEWHERE = {"redis", "text"}
#: Programs that a reader has or gets from elsewhere.
PROGRAMS = {"curl", "docker", "git", "redis-cli"}
#: Programs that the packages of `dev` bring.
SERVERS = {"uvicorn", "gunicorn", "flask", "pytest"}
#: Not installed by `dev`; the guide says where it is used.
UWSGI = "uwsgi"
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "CMD", "EXPOSE", "USER"}


def all_of(language: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for page in pages() for block in blocks(page, language)]


#: Its files are run as a project, by `test_django_page.py`.
DJANGO = ROOT / "docs" / "guides" / "django.md"
#: Some of its frameworks import what is deprecated.
OTHERS = ROOT / "docs" / "guides" / "other-frameworks.md"
OLD_IMPORTS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:pkg_resources")


def with_python() -> list[Any]:
    found = [page for page in pages() if blocks(page, "python") and page != DJANGO]
    return [pytest.param(page, id=name_of(page), marks=OLD_IMPORTS if page == OTHERS else ()) for page in found]


@pytest.mark.parametrize("page", with_python())
def test_python_runs(run: Run, page: Path) -> None:
    run.page(page)


@pytest.mark.parametrize("block", all_of("json"))
def test_json_can_be_parsed(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", all_of("yaml"))
def test_yaml_can_be_parsed(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", all_of("ini"))
def test_ini_can_be_parsed(block: Block) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    assert parser.sections()


@pytest.mark.parametrize("block", all_of("dockerfile"))
def test_dockerfile_has_known_instructions(block: Block) -> None:
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    assert {line.split()[0] for line in lines if line and not line.startswith("#")} <= INSTRUCTIONS


@pytest.mark.parametrize("block", all_of("console"))
def test_commands_exist(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words:
            check_command(words)


def check_command(words: list[str]) -> None:
    program, *arguments = words
    match program, arguments:
        case "python3", ["run", command, *_]:
            assert f'"{command}":' in SCRIPT
        case (("python" | "python3" | ".venv/bin/python"), ["-m", module, *_]):
            assert importlib.util.find_spec(module) is not None
        case (("python" | "python3" | ".venv/bin/python"), [file, *_]):
            assert file == "main.py" or (ROOT / file).exists()
        case "pip", ["install", *packages]:
            check_extras(packages)
        case _:
            assert program.removeprefix(".venv/bin/") in PROGRAMS | SERVERS | {UWSGI, "mypy", "ruff", "pre-commit"}


def check_extras(packages: list[str]) -> None:
    """The project is named by its folder, for it is not on PyPI."""
    for package in packages:
        found = re.fullmatch(r"\.\[([\w,]+)\]", package)
        assert found is None or set(found[1].split(",")) <= set(PROJECT["optional-dependencies"])
        assert "usage" not in package


def test_no_block_is_left_out() -> None:
    found = {block.language for page in pages() for block in blocks(page)}
    assert found <= CHECKED_HERE | CHECKED_ELSEWHERE
    fences = sum(len(re.findall(r"^ *```", page.read_text("utf-8"), re.MULTILINE)) for page in pages())
    assert fences == 2 * sum(len(blocks(page)) for page in pages())
