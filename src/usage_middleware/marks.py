"""The names under which we, and applications, leave notes in an ASGI scope or a WSGI environ."""

from __future__ import annotations

#: The `Call` being recorded. Its presence tells a second middleware to pass through.
CALL = "usage.call"
#: A route template left by the application, or by an adapter for a framework that keeps none.
ROUTE = "usage.route"
#: True where this request is not to be counted: the usage app marks its own requests with it.
EXCLUDE = "usage.exclude"
