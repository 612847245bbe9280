"""A digest of what something is, and of a function what it does, that is the same in every process of a deployment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import blake2b
from re import Pattern
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

#: How deep functions, their helpers and objects are followed.
_MOST_DEPTH = 6


def fingerprint(thing: object) -> str:
    """The digest. Equal things have equal ones, also in another process; what can't be looked into has one in each process.

    >>> fingerprint({"a": (1, len)}) == fingerprint({"a": (1, len)}), fingerprint(lambda: 1) == fingerprint(lambda: 2)
    (True, False)
    """
    return blake2b(repr(_described(thing, 0)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _described(thing: Any, depth: int) -> object:
    if thing is None or isinstance(thing, (bool, int, float, str, bytes)):
        return type(thing).__name__, thing
    if depth > _MOST_DEPTH:
        return _named(type(thing))
    deeper = depth + 1
    if isinstance(thing, Mapping):
        return sorted((repr(_described(key, deeper)), repr(_described(value, deeper))) for key, value in thing.items())
    if isinstance(thing, (list, tuple)):
        return [_described(one, deeper) for one in thing]
    if isinstance(thing, Collection):
        return sorted(repr(_described(one, deeper)) for one in thing)
    return _of_callable(thing, deeper) or _of_object(thing, deeper)


def _of_callable(thing: Any, depth: int) -> object:
    if isinstance(thing, partial):
        return "partial", [_described(one, depth) for one in (thing.func, thing.args, thing.keywords)]
    if isinstance(thing, MethodType):
        return "method", _described(thing.__func__, depth), _described(thing.__self__, depth)
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        used = _globals_of(thing)
        parts = (thing.__defaults__, thing.__kwdefaults__, cells, used)
        return _named(thing), _of_code(thing.__code__), [_described(part, depth) for part in parts]
    if isinstance(thing, type) or (callable(thing) and hasattr(thing, "__qualname__")):
        return _named(thing)
    return None


def _of_object(thing: Any, depth: int) -> object:
    if is_dataclass(thing):
        held = {field.name: getattr(thing, field.name) for field in fields(thing)}
        return _named(type(thing)), _described(held, depth)
    if isinstance(thing, Pattern) or getattr(type(thing), "__repr__", None) is not object.__repr__:
        return _named(type(thing)), repr(thing)
    inside = getattr(thing, "__dict__", None)
    return _named(type(thing)), id(thing) if inside is None else _described(inside, depth)


def _named(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"


def _of_code(code: CodeType) -> object:
    constants = [_of_code(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return code.co_code, code.co_names, constants


def _globals_of(function: FunctionType) -> Mapping[str, object]:
    """The data and the helpers of its module that a function names."""
    known = function.__globals__
    return {name: known[name] for name in _names_in(function.__code__) if name in known and not _is_foreign(known[name])}


def _names_in(code: CodeType) -> Iterable[str]:
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _names_in(one)


def _is_foreign(thing: object) -> bool:
    """Modules, classes and objects of others: what they do is a matter of their version."""
    is_data = thing is None or isinstance(thing, (bool, int, float, str, bytes, list, tuple, set, frozenset, dict, Pattern))
    return isinstance(thing, ModuleType) or not (is_data or isinstance(thing, (FunctionType, partial)))
