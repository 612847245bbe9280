"""`/openapi.json`: OpenAPI 3.1, generated from the table of views and the report types that answer them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from usage_middleware.options import Settings
from usage_middleware.report.by_group import allowed_groups
from usage_middleware.report.summary import PROJECT
from usage_middleware.report.viewer import Viewer
from usage_middleware.web.errors import STATUS
from usage_middleware.web.examples import EXAMPLES
from usage_middleware.web.http import reason
from usage_middleware.web.parameters import Parameter, ParameterKind
from usage_middleware.web.views import VIEWS, View

JSONSchema = dict[str, Any]

#: The version of what goes over the wire, not of the package.
API_VERSION = "1.0.0"
_COMPONENTS = "#/components/schemas/{name}"
#: What every view may answer, beside its own codes.
_SHARED_CODES = (
    "unauthenticated",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "invalid_parameter",
    "unknown_parameter",
    "rate_limited",
    "internal_error",
    "usage_unavailable",
)
_METHODS = {"get": True, "head": False}


def document(settings: Settings, viewer: Viewer, root: str = "") -> JSONSchema:
    """The whole document, as this viewer may use it; `root` is where the usage app is mounted."""
    types, components = msgspec.json.schema_components([view.report for view in VIEWS], ref_template=_COMPONENTS)
    answers = {view.name: answer for view, answer in zip(VIEWS, types, strict=True)}
    for view in VIEWS:
        if view.name in _ON_THE_WIRE:
            _ON_THE_WIRE[view.name](components, _name_of(answers[view.name]), settings)
    for component in components.values():
        _describe(component)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Usage", "version": API_VERSION, "description": "What was used, by whom, over time."},
        "servers": [{"url": root or "/"}],
        "security": [{"x-api-key": []}, {"apikey": []}, {"bearer": []}],
        "paths": {view.path: _operations(view, answers[view.name], settings, viewer) for view in VIEWS},
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


_SECURITY: JSONSchema = {
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def _operations(view: View, answer: JSONSchema, settings: Settings, viewer: Viewer) -> JSONSchema:
    parameters = [_parameter(parameter, settings, viewer) for parameter in view.parameters]
    return {
        method: {
            "operationId": f"{method}-{view.name}",
            "summary": view.title,
            "parameters": parameters,
            "responses": {"200": _success(view, answer, with_body=has_body), **_failures(view, with_body=has_body)},
        }
        for method, has_body in _METHODS.items()
    }


def _parameter(parameter: Parameter, settings: Settings, viewer: Viewer) -> JSONSchema:
    schema = {**_SCHEMAS[parameter.kind](parameter)}
    if parameter.name == "group":
        schema["enum"] = list(allowed_groups(settings, viewer))
    if parameter.default is not None:
        schema["default"] = parameter.default
    found: JSONSchema = {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": parameter.doc,
    }
    if parameter.example:
        found["example"] = msgspec.json.decode(parameter.example) if parameter.kind in _NOT_TEXT else parameter.example
    return found


_NOT_TEXT = ("integer", "boolean")
_SCHEMAS: Mapping[ParameterKind, Callable[[Parameter], JSONSchema]] = {
    "choice": lambda parameter: {"type": "string", "enum": list(parameter.choices)},
    "integer": lambda parameter: {"type": "integer", "minimum": parameter.minimum, "maximum": parameter.maximum},
    "boolean": lambda _: {"type": "boolean"},
    "text": lambda _: {"type": "string"},
    "zone": lambda _: {"type": "string"},
    "date": lambda _: {"type": "string", "format": "date"},
    "time": lambda _: {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]},
}


def _success(view: View, answer: JSONSchema, *, with_body: bool) -> JSONSchema:
    said = {"X-Cache": "HIT or MISS: whether the answer was kept.", "X-Request-Id": "Names this request."}
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in said.items()}
    found: JSONSchema = {"description": view.title, "headers": headers}
    if with_body:
        json = {"schema": answer, "example": EXAMPLES[view.name]}
        found["content"] = {"application/json": json, "text/csv": {"schema": {"type": "string"}}}
    return found


def _failures(view: View, *, with_body: bool) -> JSONSchema:
    by_status: dict[int, list[str]] = {}
    for code in sorted({*view.codes, *_SHARED_CODES}):
        by_status.setdefault(STATUS[code], []).append(code)
    return {str(status): _failure(status, codes, view, with_body=with_body) for status, codes in sorted(by_status.items())}


def _failure(status: int, codes: Iterable[str], view: View, *, with_body: bool) -> JSONSchema:
    found: JSONSchema = {"description": reason(status)}
    if with_body:
        found["content"] = {"application/json": {"schema": _envelope(status, codes, view)}}
    return found


def _envelope(status: int, codes: Iterable[str], view: View) -> JSONSchema:
    properties: JSONSchema = {name: {"const": value} for name, value in view.error_fields.items()}
    properties["error"] = {"const": reason(status)}
    properties["code"] = {"enum": list(codes)}
    properties["message"] = {"type": "string"}
    properties["param"] = {"type": ["string", "null"]}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _name_of(reference: JSONSchema) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def _object(properties: JSONSchema) -> JSONSchema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _follow(schema: JSONSchema, settled: JSONSchema, *gone: str) -> None:
    """Give an object what stands on the wire for the fields that are gone."""
    properties = schema["properties"]
    for name in gone:
        del properties[name]
    properties.update(settled)
    schema["required"] = list(properties)


def _summary_on_the_wire(components: JSONSchema, name: str, settings: Settings) -> None:
    rows = {
        f"by_{dimension}": {
            "type": "array",
            "items": _object({f"{dimension}_name": {"type": "string"}, "calls": {"type": "integer"}}),
        }
        for dimension in dict.fromkeys((PROJECT, *settings.dimensions))
    }
    _follow(components[name], rows, "by_dimension")


def _endpoints_on_the_wire(components: JSONSchema, name: str, settings: Settings) -> None:
    text: JSONSchema = {"type": "string"}
    _follow(components[name], {"api_request_id": text, "request_completed_at": text})
    usage = components[_name_of(components[name]["properties"]["results"]["items"])]
    bucket = components[_name_of(usage["properties"]["buckets"]["anyOf"][0]["items"])]
    counts = {f"num_{counter}": {"type": ["integer", "null"]} for counter in settings.counters}
    rates = {rate: {"type": ["number", "null"]} for rate in settings.rates}
    _follow(bucket, counts, "counts")
    _follow(usage, {**counts, **rates}, "counts", "rates")


_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.+(?:\n {9,}.+)*)", re.MULTILINE)


def _describe(schema: JSONSchema) -> None:
    """Move what a docstring says of its attributes to the properties themselves."""
    summary, _, attributes = schema.get("description", "").partition("\n\n    Attributes:\n")
    schema["description"] = _prose(summary)
    for name, text in _ATTRIBUTE.findall(attributes):
        if name in schema["properties"]:
            schema["properties"][name] = {**schema["properties"][name], "description": _prose(text)}


def _prose(text: str) -> str:
    """One line, in the words of JSON."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


#: Where the fields on the wire depend on the settings, the schema of the report type is made to follow.
_ON_THE_WIRE: Mapping[str, Callable[[JSONSchema, str, Settings], None]] = {
    "summary": _summary_on_the_wire,
    "endpoints": _endpoints_on_the_wire,
}
