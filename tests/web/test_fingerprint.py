"""A fingerprint tells what an answer depends on apart, and is the same in every process of a deployment."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from usage_middleware.options import Settings
from usage_middleware.web.fingerprint import fingerprint

PREFIX = "v1"


def by_prefix(method: str, template: str) -> str:
    return f"{PREFIX} {template}"


def helped(method: str, template: str) -> str:
    return by_prefix(method, template)


def made(prefix: str) -> Callable[[str, str], str]:
    def label(method: str, template: str) -> str:
        return f"{prefix} {template}"

    return label


class Labels:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, method: str, template: str) -> str:
        return f"{self.prefix} {template}"

    def label(self, method: str, template: str) -> str:
        return f"{self.prefix} {template}"


@dataclass
class Plan:
    name: str


DIFFERENT: list[Any] = [
    None,
    1,
    1.0,
    True,
    "1",
    b"1",
    (1,),
    {"a": 1},
    {"a": 2},
    {1},
    timedelta(1),
    lambda method, template: template,
    lambda method, template: method,
    lambda method, template="x": template,
    made("one"),
    made("two"),
    Labels("one"),
    Labels("two"),
    Labels("one").label,
    functools.partial(by_prefix, "GET"),
    functools.partial(by_prefix, "PUT"),
    by_prefix,
    helped,
    Plan("a"),
    Plan("b"),
    Plan,
    Labels,
    Settings(),
    Settings(operator_tree=False),
]


def test_what_differs_has_another_one() -> None:
    assert len({fingerprint(one) for one in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("function", [by_prefix, helped])
def test_what_a_function_reads_counts(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(function)
    assert fingerprint(function) == before
    monkeypatch.setattr(sys.modules[__name__], "PREFIX", "v2")
    assert fingerprint(function) != before


def test_what_contains_itself_has_one() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert fingerprint(loop) == fingerprint(loop)


@pytest.mark.slow
def test_it_is_the_same_in_another_process() -> None:
    code = "from tests.web.test_fingerprint import *; print(*(fingerprint(one) for one in DIFFERENT))"
    for seed in ("1", "2"):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed})
        assert ran.stdout.split() == [fingerprint(one) for one in DIFFERENT], ran.stderr
