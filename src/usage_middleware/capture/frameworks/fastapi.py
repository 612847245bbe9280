"""FastAPI: Starlette, with routers that are included without a copy of their routes (0.137 and later), and frontends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.starlette import MOUNTED, Place, RouteIndex, Starlette, in_schema, mounted_at, within
from usage_middleware.seen_request import Notes


class FastAPI(Starlette):
    """FastAPI and Starlette, each of which may be mounted in the other."""

    def __init__(self) -> None:
        super().__init__(notes_key="fastapi")

    def leaf(self, notes: Notes, route: Any) -> Any:
        """FastAPI's context of the route, which knows the prefixes of the routers that include it; else the route."""
        context = (notes["fastapi"] or {}).get("effective_route_context")
        return context if context is not None and context.original_route is route else route

    def places(self, route: Any, prefix: str, public: bool, depth: int) -> Iterator[Place]:
        """As in Starlette; of an included router, the places of its routes."""
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield from super().places(route, prefix, public, depth)
            return
        for context in tuple(contexts()):
            plain = getattr(context, "starlette_route", None)
            if plain is not None:
                yield from super().places(plain, prefix, public, depth)
            elif context.path_format:
                shown = public and in_schema(context)
                yield Place(context, context.endpoint, prefix + context.path_format, context.methods, shown)

    def without_route(self, index: RouteIndex, call: Call) -> str | None:
        """The template of a file of a frontend: FastAPI leaves the file's path and nothing else."""
        file: str | None = (call.notes.get("fastapi") or {}).get("frontend_path")
        mount = index.mount(call.notes)
        if file is None or mount is None or call.status == 404:
            return None
        return mount + within(call)[len(mounted_at(call.notes)) :].removesuffix(file).rstrip("/") + MOUNTED
