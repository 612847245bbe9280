"""A worker as a process of its own, which is told what to count, and where to be killed: `python -m tests.alerts.worker`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

from tests.support import START, record_call
from usage_middleware import AlertEvent, Plan, Quota, Usage, Webhook
from usage_middleware.store.alert_outbox import AlertOutbox

PLAN = Plan("free", Quota("calls", 100, alerts=(10, 25, 50, 75, 80, 90, 100, 120)))


def main(options: dict[str, Any]) -> None:
    """Count as many calls as each line says, and print how many were counted so far."""
    if options.get("killed_in"):
        setattr(AlertOutbox, options["killed_in"], killed)
    clock = lambda: START + time.monotonic() - options["began"] + options.get("later", 0)  # noqa: E731
    usage = Usage(
        options["redis"],
        namespace=options["namespace"],
        plans=[PLAN],
        default_plan="free",
        on_alert=target(options),
        flush_interval=3600,
        clock=clock,
    )
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            record_call(usage.recorder, ("acme", "key_1"), "GET /v1/items", (), 200, 8000, 100, ())
        assert usage.flush()
        print(line.strip(), flush=True)


def target(options: dict[str, Any]) -> Any:
    """What is told of alerts: a webhook, or a file with a line for each, which a torn one before does not spoil."""
    if options.get("url"):
        return Webhook(options["url"], options["secret"], allow_private=True, ca=options["ca"])

    def told(event: AlertEvent) -> None:
        line = json.dumps([event.id, event.data.threshold_percent])
        with open(options["file"], "a") as file:
            file.write(f"\n{line}\n")

    return told


def killed(*_: object, **__: object) -> NoReturn:
    """Be killed here."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
