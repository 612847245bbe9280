"""An answer of each view, for `/openapi.json`. A test holds them to the schemas."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_LATENCY = {"avg": 18.25, "p50": 12.1, "p90": 38.2, "p95": 51.0, "p99": 131.9}


def _window(start: str, label: str, resolution: str) -> dict[str, str]:
    return {
        "start": start,
        "end": "2026-11-20T13:45:20Z",
        "label": label,
        "timezone": "UTC",
        "resolution": resolution,
    }


_KEPT = {"dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z"}
_SHARED = {"org_id": "acme", **_KEPT, "generated_at": "2026-11-20T13:45:20Z"}

_SUMMARY = {
    "window": _window("2026-10-21T00:00:00Z", "30d", "1d"),
    "total_calls": 12345,
    "successful_calls": 12000,
    "by_endpoint": [{"endpoint": "GET /v1/scans", "calls": 12345, "successful": 12000}],
    "top_endpoints": [{"endpoint": "GET /v1/scans", "calls": 12345, "successful": 12000}],
    "by_project": [{"project_name": "default", "calls": 12345}],
    "by_status_class": [{"status_class": 200, "calls": 12000}, {"status_class": 400, "calls": 345}],
    "by_day": [{"day": "2026-11-20", "calls": 12345, "successful": 12000}],
    "errors": 345,
    "bytes": 9876543,
    "latency_ms": _LATENCY,
    **_SHARED,
}

_DETAILS = {
    "success": True,
    "usage": {
        "window": _window("2026-11-19T13:30:00Z", "24h", "30m"),
        "key_id": None,
        "requests": 42,
        "successful": 40,
        "errors": 2,
        "error_rate": 0.047619047619047616,
        "bytes": 4096,
        "latency_ms": _LATENCY,
        "granularity": "hour",
        **_KEPT,
    },
    "time_series": [
        {
            "timestamp": "2026-11-20T13:00:00Z",
            "requests": 42,
            "successful": 40,
            "errors": 2,
            "bytes": 4096,
            "avg_latency_ms": 18.25,
        }
    ],
    "endpoints": [
        {
            "endpoint": "GET /v1/items/{id}",
            "requests": 42,
            "successful": 40,
            "errors": 2,
            "error_rate": 0.047619047619047616,
            "latency_ms": _LATENCY,
            "last_requested_at": "2026-11-20T13:44:58.120Z",
        }
    ],
    "errors": {
        "total": 2,
        "rate": 0.047619047619047616,
        "by_status": [{"status": 404, "count": 2}],
        "by_class": [{"status_class": 400, "count": 2}],
    },
    "rate_limits": None,
    "alerts": [],
    "recommendations": [],
    "pagination": {"total": 1, "limit": 100, "offset": 0, "has_more": False},
    "timestamp": "2026-11-20T13:45:20Z",
}

_BY_GROUP = {
    "range": "24h",
    "group": "method",
    "totals": {"calls": 1260, "errors": 12, "bytes": 734003},
    "buckets": [
        {"bucket": "GET", "calls": 1200, "errors": 12, "avg_ms": 8.4},
        {"bucket": "POST", "calls": 60, "errors": 0, "avg_ms": 22.75},
    ],
    "over_quota": False,
    "other": {"calls": 0, "errors": 0, "avg_ms": 0.0, "members": 0},
    "window": _window("2026-11-19T13:30:00Z", "24h", "30m"),
    **_SHARED,
}

_BY_KEY = {
    "keys": [
        {
            "key_id": "key_7",
            "name": "Search backend",
            "environment": "live",
            "request_count": 1260,
            "endpoint_distribution": {"GET /v1/items": 1200, "POST /v1/items": 60},
            "error_count": 12,
            "last_activity": "2026-11-20T13:44:58.120Z",
            "revoked_at": None,
        }
    ],
    "total_keys": 1,
    "totals": {"request_count": 1260, "error_count": 12},
    "other": {"request_count": 0, "error_count": 0, "keys": 0},
    "pagination": None,
    "window": _window("2026-10-21T00:00:00Z", "30d", "1d"),
    **_SHARED,
}

_ENDPOINTS = {
    "api_request_id": "req_0f4c",
    "results": [
        {
            "endpoint": "v1/resolve",
            "total_requests": 42,
            "num_input_records": 1200,
            "num_resolvable_records": 1100,
            "num_matches": 980,
            "last_requested_at": "2026-03-26T14:00:00Z",
            "buckets": [
                {
                    "bucket_start": "2026-03-26T00:00:00+00:00",
                    "total_requests": 42,
                    "num_input_records": 1200,
                    "num_resolvable_records": 1100,
                    "num_matches": 980,
                }
            ],
            "overall_match_rate": 0.8166666666666667,
            "resolvable_match_rate": 0.8909090909090909,
        }
    ],
    "window": _window("2026-03-26T00:00:00Z", "custom", "1d"),
    "org_id": "acme",
    "complete_through": "2026-11-20T13:45:15Z",
    "generated_at": "2026-11-20T13:45:20Z",
    "request_completed_at": "2026-11-20T13:45:20.123456Z",
}

#: View -> an answer.
EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"summary": _SUMMARY, "details": _DETAILS, "endpoints": _ENDPOINTS, "by-group": _BY_GROUP, "by-key": _BY_KEY}
)
