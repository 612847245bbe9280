"""The usage API over HTTP. A blueprint for Flask is in `usage_middleware.web.flask`."""

from __future__ import annotations

from usage_middleware.web.auth import Forbidden as Forbidden
from usage_middleware.web.auth import KeyAuth as KeyAuth
from usage_middleware.web.browser_auth import BrowserAuth as BrowserAuth
from usage_middleware.web.starlette import mount_usage as mount_usage
from usage_middleware.web.starlette import usage_app as usage_app
from usage_middleware.web.wsgi import usage_wsgi_app as usage_wsgi_app
