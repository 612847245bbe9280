"""The peers: packages a user may choose instead, each installed as its own documentation says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeAlias

from benchmarks import apps, django_app

#: Makes a wrapped application. It raises if the peer does not run here.
Make: TypeAlias = Callable[[], Any]

#: An address where nothing listens, for peers that send data to their vendor.
NOWHERE = "http://127.0.0.1:9"


def made(peers: Mapping[str, Make]) -> tuple[dict[str, Any], dict[str, str]]:
    """The wrapped applications of the peers that run here, and for the others the reason why they don't."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, make in peers.items():
        try:
            found[name] = make()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0].partition(" (/")[0]
    return found, missing


def _metrics() -> Mapping[str, Any]:
    """OpenTelemetry's metrics, aggregated in memory; no spans."""
    sdk, export = import_module("opentelemetry.sdk.metrics"), import_module("opentelemetry.sdk.metrics.export")
    provider = sdk.MeterProvider(metric_readers=[export.InMemoryMetricReader()])
    return {"meter_provider": provider, "tracer_provider": import_module("opentelemetry.trace").NoOpTracerProvider()}


def instrumentator(make_app: Make) -> Any:
    """prometheus-fastapi-instrumentator with its default metrics."""
    app = make_app()
    registry = import_module("prometheus_client").CollectorRegistry()
    import_module("prometheus_fastapi_instrumentator").Instrumentator(registry=registry).instrument(app)
    return app


def starlette_exporter(make_app: Make) -> Any:
    """starlette_exporter with its default metrics."""
    app = make_app()
    module = import_module("starlette_exporter")
    app.add_middleware(module.PrometheusMiddleware, app_name=f"app{id(app)}", prefix=f"app{id(app)}")
    return app


def opentelemetry_asgi(make_app: Make) -> Any:
    """OpenTelemetry's ASGI middleware, metrics alone."""
    return import_module("opentelemetry.instrumentation.asgi").OpenTelemetryMiddleware(make_app(), **_metrics())


def apitally(make_app: Make, framework: str) -> Any:
    """apitally, without a server to send to."""
    os.environ["APITALLY_OTLP_ENDPOINT"] = NOWHERE
    app = make_app()
    import_module(f"apitally.{framework}").init(app, write_token="apt_" + "0" * 24, env="bench")
    return app


def base_http(make_app: Make) -> Any:
    """Starlette's BaseHTTPMiddleware, doing nothing."""
    module = import_module("starlette.middleware.base")

    async def nothing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = make_app()
    app.add_middleware(module.BaseHTTPMiddleware, dispatch=nothing)
    return app


class PassThrough:
    """An ASGI middleware that only wraps `send`, as every middleware that reads responses must."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on."""

        async def passing(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, passing)


def pass_through(make_app: Make) -> Any:
    """An application under `PassThrough`."""
    app = make_app()
    app.add_middleware(PassThrough)
    return app


def wsgi_pass_through(make_app: Make) -> Any:
    """A WSGI middleware that only wraps `start_response`."""
    app = make_app()

    def passing(environ: Any, start_response: Any) -> Any:
        def started(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, headers, exc_info)

        return app(environ, started)

    return passing


def opentelemetry_wsgi(make_app: Make) -> Any:
    """OpenTelemetry's WSGI middleware, metrics alone."""
    return import_module("opentelemetry.instrumentation.wsgi").OpenTelemetryMiddleware(make_app(), **_metrics())


def flask_exporter(make_app: Make) -> Any:
    """prometheus-flask-exporter with its default metrics."""
    app = make_app()
    registry = import_module("prometheus_client").CollectorRegistry()
    import_module("prometheus_flask_exporter").PrometheusMetrics(app, registry=registry)
    return app


def flask_track_usage(make_app: Make) -> Any:
    """flask-track-usage with a storage that throws everything away."""
    module = import_module("flask_track_usage")
    app = make_app()
    module.TrackUsage(app, [lambda _: None])
    return app


STARLETTE: Mapping[str, Make] = {
    "pass-through middleware": lambda: pass_through(apps.starlette_app),
    "BaseHTTPMiddleware, doing nothing": lambda: base_http(apps.starlette_app),
    "prometheus-fastapi-instrumentator": lambda: instrumentator(apps.starlette_app),
    "starlette_exporter": lambda: starlette_exporter(apps.starlette_app),
    "OpenTelemetry ASGI, metrics": lambda: opentelemetry_asgi(apps.starlette_app),
    "apitally": lambda: apitally(apps.starlette_app, "starlette"),
}
#: Without apitally: it patches FastAPI for the whole process, so no bare application is left to compare with.
FASTAPI: Mapping[str, Make] = {
    "pass-through middleware": lambda: pass_through(apps.fastapi_app),
    "BaseHTTPMiddleware, doing nothing": lambda: base_http(apps.fastapi_app),
    "prometheus-fastapi-instrumentator": lambda: instrumentator(apps.fastapi_app),
    "starlette_exporter": lambda: starlette_exporter(apps.fastapi_app),
    "OpenTelemetry ASGI, metrics": lambda: opentelemetry_asgi(apps.fastapi_app),
}
FLASK: Mapping[str, Make] = {
    "pass-through middleware": lambda: wsgi_pass_through(apps.flask_app),
    "OpenTelemetry WSGI, metrics": lambda: opentelemetry_wsgi(apps.flask_app),
    "prometheus-flask-exporter": lambda: flask_exporter(apps.flask_app),
    "flask-track-usage": lambda: flask_track_usage(apps.flask_app),
}
DJANGO: Mapping[str, Make] = {
    "pass-through middleware": lambda: wsgi_pass_through(django_app.django_app),
    "usage_middleware, in MIDDLEWARE": django_app.in_middleware,
    "django-prometheus": django_app.django_prometheus,
}
#: Peers that patch the whole process, so each runs in its own.
APART = frozenset({"apitally"})
#: Measured for comparison: they count nothing.
NO_PEERS = frozenset({"pass-through middleware", "BaseHTTPMiddleware, doing nothing"})
