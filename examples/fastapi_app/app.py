"""A small geocoding API with two customers: every call is counted, and each customer sees its own usage under /usage."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field

from usage_middleware import AlertEvent, KeyInfo, Limit, Plan, Quota, Usage, UsageMiddleware, Webhook, track
from usage_middleware.web import BrowserAuth, KeyAuth, mount_usage

logger = logging.getLogger("places")

#: The API keys of both customers. Made up; a real application has them in its own database, hashed.
LIVE_KEYS = {
    "acme-live-storefront": ("acme", KeyInfo(id="key_storefront", name="Storefront", environment="live")),
    "acme-live-warehouse": ("acme", KeyInfo(id="key_warehouse", name="Warehouse", environment="live")),
    "acme-test-staging": ("acme", KeyInfo(id="key_staging", name="Staging", environment="test")),
    "acme-live-partner": ("acme", KeyInfo(id="key_partner", name="Partner", environment="live")),
    "globex-live-maps": ("globex", KeyInfo(id="key_maps", name="Maps", environment="live")),
    "globex-test-sandbox": ("globex", KeyInfo(id="key_sandbox", name="Sandbox", environment="test")),
}
REVOKED_KEYS = {
    "acme-live-old-app": ("acme", KeyInfo(id="key_old_app", name="Old mobile app", environment="live")),
}

PLACES = {
    "ams": ("Amsterdam", 52.37, 4.90),
    "lis": ("Lisbon", 38.72, -9.14),
    "nbo": ("Nairobi", -1.29, 36.82),
    "osa": ("Osaka", 34.69, 135.50),
    "rek": ("Reykjavik", 64.15, -21.94),
    "yul": ("Montreal", 45.50, -73.57),
}
#: The routing provider does not cover these.
ISLANDS = {"rek"}

FREE = Plan("free", Limit("requests", 60), Quota("calls", 10, per="day"))
PRO = Plan("pro", Limit("requests", 600, by="key"), Quota("calls", 100_000), Quota("records", 1_000_000, of="records"))
#: Who has which plan; all others have the free one.
PLANS = {"acme": "pro"}


def warn(event: AlertEvent) -> None:
    """Log that a customer comes near to its quota, or is over it."""
    data = event.data
    logger.warning("%s has used %d of %d %s", data.org_id, data.used, data.limit_amount, data.limit)


def on_alert() -> Webhook | Callable[[AlertEvent], None]:
    """Where alerts go: to `USAGE_WEBHOOK_URL`, which may be the receiver below on another machine; else they are logged."""
    url = os.environ.get("USAGE_WEBHOOK_URL")
    return warn if url is None else Webhook(url, os.environ["USAGE_WEBHOOK_SECRET"])


usage = Usage(
    namespace=os.environ.get("USAGE_NAMESPACE", "usage"),
    credentials=("x-api-key",),
    dimensions=("project",),
    counters=("records", "matches"),
    untagged={"project": "default"},
    plans=(FREE, PRO),
    default_plan="free",
    on_alert=on_alert(),
    flush_interval=float(os.environ.get("USAGE_FLUSH_INTERVAL", "5")),
)


def seed(usage: Usage) -> None:
    """Tell the key directory about every key, so that calls are counted under its name, and who has which plan.

    May be done again.
    """
    for secret, (org, key) in LIVE_KEYS.items():
        usage.keys.put(org, key, secret=secret)
    for secret, (org, key) in REVOKED_KEYS.items():
        if usage.keys.get(org, key.id) is None:
            usage.keys.put(org, key, secret=secret)
            usage.keys.revoke(org, key.id)
    for org, plan in PLANS.items():
        assigned = usage.plans.get(org)
        if assigned is None or assigned.plan != plan:
            usage.plans.assign(org, plan, timezone="Europe/Lisbon")


def authorize(
    request: Request,
    x_api_key: Annotated[str | None, Header()] = None,
    x_project: Annotated[str | None, Header()] = None,
) -> None:
    """Let known keys in, and tag the call with the project it is for. Who called is read from the header by `Usage`."""
    if x_api_key not in LIVE_KEYS:
        raise HTTPException(401, "unknown or revoked API key", {"WWW-Authenticate": "ApiKey"})
    if x_project:
        track(request).tag(project=x_project)


class Place(BaseModel):
    """Where a place is."""

    id: str
    name: str
    latitude: float
    longitude: float


class Batch(BaseModel):
    """Names to look up at once."""

    queries: Annotated[list[str], Field(min_length=1, max_length=100)]


class Distance(BaseModel):
    """How far it is as the crow flies."""

    kilometres: int


v1 = APIRouter(prefix="/v1", dependencies=[Depends(authorize)])


@v1.get("/geocode")
def geocode(request: Request, q: str) -> list[Place]:
    """The places whose name contains `q`."""
    found = lookup(q)
    track(request).count(records=1, matches=1 if found else 0)
    return found


@v1.post("/geocode/batch")
def geocode_batch(request: Request, batch: Batch) -> list[list[Place]]:
    """As `geocode`, for up to 100 names."""
    found = [lookup(query) for query in batch.queries]
    track(request).count(records=len(found), matches=sum(1 for places in found if places))
    return found


@v1.get("/places/{place_id}")
def place(place_id: str) -> Place:
    """One place."""
    if place_id not in PLACES:
        raise HTTPException(404, "no such place")
    return described(place_id)


@v1.get("/distance/{start}/{finish}")
async def distance(start: str, finish: str) -> Distance:
    """How far it is from one place to another; slow, as it asks a routing provider."""
    await asyncio.sleep(0.25)
    if {start, finish} & ISLANDS:
        raise HTTPException(503, "the routing provider does not answer", {"Retry-After": "30"})
    if not {start, finish} <= PLACES.keys():
        raise HTTPException(404, "no such place")
    return Distance(kilometres=round(kilometres(start, finish)))


def lookup(text: str) -> list[Place]:
    """The places whose name contains the text."""
    return [described(place_id) for place_id, (name, *_) in PLACES.items() if text.casefold() in name.casefold()]


def kilometres(start: str, finish: str) -> float:
    """The great circle between two places."""
    (_, north, east), (_, other_north, other_east) = PLACES[start], PLACES[finish]
    turn = math.radians(east - other_east)
    north, other_north = math.radians(north), math.radians(other_north)
    cosine = math.sin(north) * math.sin(other_north) + math.cos(north) * math.cos(other_north) * math.cos(turn)
    return 6371 * math.acos(min(cosine, 1.0))


def described(place_id: str) -> Place:
    """A place as the API shows it."""
    name, latitude, longitude = PLACES[place_id]
    return Place(id=place_id, name=name, latitude=latitude, longitude=longitude)


app = FastAPI(title="Places")
app.include_router(v1)
# People open /usage/dashboard in a browser, and sign in with an API key. Programs show their key with each request.
auth = BrowserAuth(KeyAuth(usage.keys))
mount_usage(app, "/usage", usage, auth=auth, name="places", cache_seconds=int(os.environ.get("USAGE_CACHE_SECONDS", "60")))
app.add_middleware(UsageMiddleware, usage=usage)


@app.get("/")
def hello() -> dict[str, str]:
    """What this is; needs no key, so its calls count as `(anonymous)`."""
    return {"name": "Places", "docs": "/docs", "usage": "/usage/summary"}


if __name__ == "__main__":
    import uvicorn

    seed(usage)
    uvicorn.run(app, port=8000)
