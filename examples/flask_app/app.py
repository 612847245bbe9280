"""A small company-data API on Flask with two customers: every call is counted, each customer sees its own under /usage."""

from __future__ import annotations

import os
from typing import Any

from flask import Blueprint, Flask, Response, abort, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from usage_middleware import KeyInfo, Plan, Price, Quota, Usage, WSGIUsageMiddleware, track
from usage_middleware.web import KeyAuth, usage_wsgi_app

#: The API keys of both customers. Made up; a real application has them in its own database, hashed.
LIVE_KEYS = {
    "initech-live-crm": ("initech", KeyInfo(id="key_crm", name="CRM sync", environment="live", labels={"team": "sales"})),
    "initech-test-crm": (
        "initech",
        KeyInfo(id="key_crm_test", name="CRM sync, test", environment="test", labels={"team": "it"}),
    ),
    "initech-live-spare": ("initech", KeyInfo(id="key_spare", name="Spare, not in use yet", environment="live")),
    "hooli-live-search": ("hooli", KeyInfo(id="key_search", name="Search", environment="live")),
}
REVOKED_KEYS = {
    "hooli-live-scraper": ("hooli", KeyInfo(id="key_scraper", name="Scraper", environment="live")),
}

COMPANIES = {
    "example.com": {"name": "Example Ltd", "employees": 12},
    "example.net": {"name": "Example Networks", "employees": 340},
    "example.org": {"name": "Example Foundation", "employees": 58},
}

#: Ten euros a month, and a cent for each record that matched after the first thousand.
STANDARD = Plan(
    "standard",
    Quota("matches", 50_000, of="matches"),
    prices=(Price("base", flat="10.00"), Price("matches", of="matches", graduated=((1_000, "0"), (None, "0.01")))),
    currency="EUR",
)

usage = Usage(
    namespace=os.environ.get("USAGE_NAMESPACE", "usage"),
    credentials=("x-api-key",),
    dimensions=("project",),
    counters=("records", "matches"),
    rates={"match_rate": ("matches", "records")},
    untagged={"project": "default"},
    plans=(STANDARD,),
    default_plan="standard",
    flush_interval=float(os.environ.get("USAGE_FLUSH_INTERVAL", "5")),
)


def seed(usage: Usage) -> None:
    """Tell the key directory about every key, so that calls are counted under its name. May be done again."""
    for secret, (org, key) in LIVE_KEYS.items():
        usage.keys.put(org, key, secret=secret)
    for secret, (org, key) in REVOKED_KEYS.items():
        if usage.keys.get(org, key.id) is None:
            usage.keys.put(org, key, secret=secret)
            usage.keys.revoke(org, key.id)


v1 = Blueprint("v1", __name__, url_prefix="/v1")


@v1.before_request
def authorize() -> None:
    """Let known keys in, and tag the call with the project it is for. Who called is read from the header by `Usage`."""
    if request.headers.get("X-API-Key") not in LIVE_KEYS:
        abort(401)
    if project := request.headers.get("X-Project"):
        track(request).tag(project=project)


@v1.get("/companies/<domain>")
def company(domain: str) -> dict[str, Any]:
    """One company."""
    if domain not in COMPANIES:
        abort(404)
    return COMPANIES[domain]


@v1.post("/enrich")
def enrich() -> list[dict[str, Any] | None]:
    """What is known about each domain of a list; null where nothing is."""
    found = [COMPANIES.get(domain) for domain in request.get_json()["domains"]]
    track(request).count(records=len(found), matches=sum(1 for company in found if company))
    return found


@v1.get("/export.csv")
def export() -> Response:
    """Every company, streamed."""
    lines = (f"{domain},{known['name']},{known['employees']}\r\n" for domain, known in COMPANIES.items())
    return Response(lines, mimetype="text/csv")


app = Flask(__name__)
app.register_blueprint(v1)


@app.get("/")
def hello() -> dict[str, str]:
    """What this is; needs no key, so its calls count as `(anonymous)`."""
    return {"name": "Companies", "usage": "/usage/summary"}


mounted = DispatcherMiddleware(app.wsgi_app, {"/usage": usage_wsgi_app(usage, auth=KeyAuth(usage.keys))})
app.wsgi_app = WSGIUsageMiddleware(mounted, usage)  # type: ignore[method-assign]


if __name__ == "__main__":
    seed(usage)
    app.run(port=8000)
