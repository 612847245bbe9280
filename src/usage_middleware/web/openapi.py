"""`/openapi.json`: OpenAPI 3.1, generated from the views and the types of their reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import msgspec

from usage_middleware.options import Settings
from usage_middleware.report.parameters import Parameter, ParameterKind
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.report.viewer import Viewer
from usage_middleware.report.window import WindowEdges
from usage_middleware.web.errors import SHARED_STATUS, STATUS
from usage_middleware.web.http import reason

JSONSchema: TypeAlias = dict[str, Any]

#: The version of what goes over the wire, not of the package.
API_VERSION = "1.0.0"
#: What a customer has to know of windows.
DESCRIPTION = """\
What was used, by whom, over time.

- `start` is inclusive, `end` exclusive. Every answer is exact for the `window` that it names.
- A named period is the same window in every view. It begins at a minute (`1h`), at a half-hour (`24h`), or at the midnight of
  `timezone` so many days ago, and ends now, or at `end`.
- What is included, sorting, pages and format never change a window or a total.
- A window of your own is exact where its edges are still kept. Else they move outward by at most a tenth of it, and
  `window.requested` has what was asked for; a time with seconds moves as far as that allows.
- What would have to move further is refused with `not_retained`, and so is any move with `align=exact`, except to the edge's
  own minute. `nearest` has the nearest windows that can be answered.
- A part that is not kept for the window is null, and `unavailable` says why; the totals stand.
- `compare=previous` adds the totals of the window before, and by how much of themselves they have grown.
"""
_COMPONENTS = "#/components/schemas/{name}"
_METHODS = {"get": True, "head": False}


def document(settings: Settings, viewer: Viewer, root: str = "") -> JSONSchema:
    """The whole document, as this viewer may use it; `root` is where the usage app is mounted."""
    views = (*VIEWS, *PLAN_VIEWS)
    _, components = msgspec.json.schema_components([view.report for view in views], ref_template=_COMPONENTS)
    for view in views:
        for report, fields in view.wire_fields(settings).items():
            _change_fields(components[report.__name__], fields)
        if view.is_signed:
            text = {"type": "string"}
            _change_fields(components[view.report.__name__], {"api_request_id": text, "request_completed_at": text})
    for component in components.values():
        _describe(component)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Usage", "version": API_VERSION, "description": DESCRIPTION},
        "servers": [{"url": root or "/"}],
        "security": [{"x-api-key": []}, {"apikey": []}, {"bearer": []}],
        "paths": {view.path: _operations(view, settings, viewer) for view in views},
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


_SECURITY: JSONSchema = {
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def _operations(view: AnyView, settings: Settings, viewer: Viewer) -> JSONSchema:
    choices = {name: list(allowed(settings, viewer)) for name, allowed in view.choices.items()}
    parameters = [_parameter(parameter, choices.get(parameter.name)) for parameter in view.parameters]
    return {
        method: {
            "operationId": f"{method}-{view.name}",
            "summary": view.title,
            "parameters": parameters,
            "responses": {"200": _success(view, with_body=has_body), **_failures(view, with_body=has_body)},
        }
        for method, has_body in _METHODS.items()
    }


def _parameter(parameter: Parameter, choices: list[str] | None) -> JSONSchema:
    schema = {**_SCHEMAS[parameter.kind](parameter)}
    if choices is not None:
        schema["enum"] = choices
    if parameter.default is not None:
        schema["default"] = parameter.default
    found: JSONSchema = {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": parameter.description,
    }
    if parameter.example:
        found["example"] = msgspec.json.decode(parameter.example) if parameter.kind in _NOT_TEXT else parameter.example
    return found


_NOT_TEXT = ("integer", "boolean")
_SCHEMAS: Mapping[ParameterKind, Callable[[Parameter], JSONSchema]] = {
    "choice": lambda parameter: {"type": "string", "enum": list(parameter.choices)},
    "integer": lambda parameter: {"type": "integer", "minimum": parameter.minimum, "maximum": parameter.maximum},
    "boolean": lambda _: {"type": "boolean"},
    "text": lambda parameter: {"type": "string", **({"maxLength": parameter.maximum} if parameter.maximum else {})},
    "zone": lambda _: {"type": "string"},
    "date": lambda _: {"type": "string", "format": "date"},
    "time": lambda _: {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]},
}


def _success(view: AnyView, *, with_body: bool) -> JSONSchema:
    described = {
        "X-Cache": "HIT or MISS: whether the answer was cached.",
        "X-Request-Id": "Names this request.",
        "X-RateLimit-Limit": "How often you may ask.",
        "X-RateLimit-Remaining": "How often you may ask now.",
        "X-RateLimit-Reset": "When you may ask as often as that again, seconds since 1970.",
    }
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in described.items()}
    found: JSONSchema = {"description": view.title, "headers": headers}
    if with_body:
        schema = {"$ref": _COMPONENTS.format(name=view.report.__name__)}
        json = {"schema": schema, "example": msgspec.json.decode(view.example)}
        found["content"] = {"application/json": json, "text/csv": {"schema": {"type": "string"}}}
    return found


def _failures(view: AnyView, *, with_body: bool) -> JSONSchema:
    by_status: dict[int, list[str]] = {}
    for code in sorted({*view.codes, *SHARED_STATUS}):
        by_status.setdefault(STATUS[code], []).append(code)
    return {str(status): _failure(status, codes, view, with_body=with_body) for status, codes in sorted(by_status.items())}


def _failure(status: int, codes: Collection[str], view: AnyView, *, with_body: bool) -> JSONSchema:
    found: JSONSchema = {"description": reason(status)}
    if with_body:
        found["content"] = {"application/json": {"schema": _envelope(status, codes, view)}}
    return found


def _envelope(status: int, codes: Collection[str], view: AnyView) -> JSONSchema:
    properties: JSONSchema = {name: {"const": value} for name, value in view.error_fields.items()}
    properties["error"] = {"const": reason(status)}
    properties["code"] = {"enum": list(codes)}
    properties["message"] = {"type": "string"}
    properties["param"] = {"type": ["string", "null"]}
    required = list(properties)
    if "not_retained" in codes:
        properties["nearest"] = {"type": "array", "items": {"$ref": _COMPONENTS.format(name=WindowEdges.__name__)}}
    return {"type": "object", "properties": properties, "required": required}


def _change_fields(schema: JSONSchema, fields: Mapping[str, Any]) -> None:
    """Make an object's schema follow what stands on the wire: new fields come last, those of None go."""
    properties = {**schema["properties"], **fields}
    schema["properties"] = {name: field for name, field in properties.items() if field is not None}
    gone = {name for name, field in fields.items() if field is None}
    schema["required"] = [name for name in (*schema.get("required", ()), *fields) if name not in gone]


_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.+(?:\n {9,}.+)*)", re.MULTILINE)


def _describe(schema: JSONSchema) -> None:
    """Move what a docstring says of its attributes to the properties themselves."""
    summary, _, attributes = schema.get("description", "").partition("\n\n    Attributes:\n")
    schema["description"] = _prose(summary)
    for name, text in _ATTRIBUTE.findall(attributes):
        if name in schema["properties"]:
            schema["properties"][name] = {**schema["properties"][name], "description": _prose(text)}


def _prose(text: str) -> str:
    """One line, with `null` in place of None."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))
