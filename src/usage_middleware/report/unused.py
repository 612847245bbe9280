"""The endpoints that a viewer is shown although nobody called them: the application's own, never what other tenants called."""

from __future__ import annotations

from usage_middleware.report.context import ReportContext
from usage_middleware.report.metrics import label_of


def visible_labels(context: ReportContext) -> list[str]:
    """The labels of the endpoints that may be shown without a call.

    Those that the application's schema lists; or what `visible_endpoints` chooses of all its routes.
    """
    settings, routes = context.settings, context.reader.routes()
    if context.visible_endpoints is None:
        return sorted({label_of(endpoint, settings) for endpoint, public in routes.items() if public})
    labels = sorted({label_of(endpoint, settings) for endpoint in routes})
    return list(dict.fromkeys(context.visible_endpoints(context.viewer, labels)))
