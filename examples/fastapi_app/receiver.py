"""Takes the alerts that a `Webhook` sends, and believes only those that are signed. `USAGE_WEBHOOK_URL` leads to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any

from fastapi import FastAPI, HTTPException, Request

app = FastAPI(title="Alerts")
#: The alerts that came, by their ids: one that comes twice is the same.
alerts: dict[str, dict[str, Any]] = {}

#: A message of so long ago may be somebody else's copy, seconds.
OLDEST = 300


@app.post("/hooks/usage", status_code=204)
async def take(request: Request) -> None:
    """Take one alert."""
    body = await request.body()
    check(request.headers, body, os.environ["USAGE_WEBHOOK_SECRET"])
    alerts[request.headers["webhook-id"]] = json.loads(body)


def check(headers: Any, body: bytes, secret: str) -> None:
    """Refuse what is not signed with the secret, as https://www.standardwebhooks.com says."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > OLDEST:
        raise HTTPException(400, "too old")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = f"v1,{base64.b64encode(signed).decode()}"
    if not any(hmac.compare_digest(expected, given) for given in headers.get("webhook-signature", "").split()):
        raise HTTPException(401, "the signature is wrong")
