"""As much of JSON Schema as our own schemas use, so that no test needs a library for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def violations(value: Any, schema: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    """What in a value does not fit a schema, fields that it does not name included."""
    return list(_violations(value, schema, spec, "$"))


def _violations(value: Any, schema: dict[str, Any], spec: dict[str, Any], at: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in schema:
        if all(list(_violations(value, one, spec, at)) for one in schema["anyOf"]):
            yield f"{at}: {value!r} fits none of {schema['anyOf']}"
        return
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{at}: {value!r} is no {schema['type']}"
    elif value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{at}: {value!r} is none of those allowed"
    elif isinstance(value, dict):
        yield from _in_object(value, schema, spec, at)
    elif isinstance(value, list):
        first = schema.get("prefixItems", ())
        if "maxItems" in schema and len(value) > schema["maxItems"]:
            yield f"{at}: {value!r} is too long"
        for number, item in enumerate(value):
            of_item = first[number] if number < len(first) else schema.get("items") or {}
            yield from _violations(item, of_item, spec, f"{at}[{number}]")


def _is(value: Any, types: str | list[str]) -> bool:
    wanted = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in wanted
    return any(isinstance(value, _TYPES[one]) for one in wanted)


def _in_object(value: dict[str, Any], schema: dict[str, Any], spec: dict[str, Any], at: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        if name in properties:
            yield from _violations(item, properties[name], spec, f"{at}.{name}")
        elif "additionalProperties" in schema:
            yield from _violations(item, schema["additionalProperties"], spec, f"{at}.{name}")
        else:
            yield f"{at}.{name} is in no schema"
