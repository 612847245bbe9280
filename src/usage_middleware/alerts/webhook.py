"""`Webhook`: sends alerts to a URL, as https://www.standardwebhooks.com says, and to public addresses only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from usage_middleware import fork
from usage_middleware.alerts.addresses import Refused
from usage_middleware.alerts.event import AlertEvent
from usage_middleware.errors import ConfigurationError

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_GONE = 410


class NotDelivered(Exception):
    """A delivery that failed. It is tried again, unless `is_final`."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Webhook:
    """Where alerts are sent to.

    An answer 2xx is a delivery. Any other, a redirect too, is tried again for a day; 410 ends it.

    Args:
        url: https, without user and password.
        secret: `whsec_` and 24 to 64 bytes as base64; several while one is replaced: each signs.
        allow_private: whether the host may have addresses that are not public: for a network of your own.
        ca: a file with the certificates of an authority of your own; None: those of the system.

    Raises:
        ConfigurationError: naming the argument and what is allowed.
    """

    def __init__(self, url: str, secret: str | Sequence[str], *, allow_private: bool = False, ca: str | None = None) -> None:
        self._host, self._port, self._target = _parsed(url)
        self._keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
        if not self._keys:
            raise ConfigurationError("secret of Webhook must be a secret, or several")
        if not isinstance(allow_private, bool):
            raise ConfigurationError(f"allow_private of Webhook must be True or False, not {allow_private!r}")
        self._allow_private = allow_private
        self._tls = None if ca is None else _trusting(ca)

    def __repr__(self) -> str:
        return f"<Webhook https://{self._host}>"

    def __call__(self, event: AlertEvent) -> None:
        """Send an alert.

        Raises:
            NotDelivered: it was not taken.
        """
        https = _transport()
        body, now = event.encode(), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "usage-middleware",
            "webhook-id": event.id,
            "webhook-timestamp": str(now),
            "webhook-signature": self.signature(event.id, now, body),
        }
        place = https.Place(self._host, self._port, self._target, self._allow_private)
        try:
            self._tls = self._tls or https.trusting(None)
            status = https.post(place, self._tls, headers, body)
        except (OSError, Refused) as error:
            raise NotDelivered(f"{self!r}: {str(error) or type(error).__name__}") from error
        if not 200 <= status <= 299:
            raise NotDelivered(f"{self!r} answered {status}", is_final=status == _GONE)

    def signature(self, id: str, timestamp: int, body: bytes) -> str:
        """What the header `webhook-signature` says: one signature for each secret."""
        signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
        found = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys)
        return " ".join(f"v1,{one}" for one in found)


def _transport() -> Any:
    """What sends: it imports `ssl`, which an application without webhooks does without."""
    with fork.importing:
        from usage_middleware.alerts import https
    return https


def _trusting(ca: str) -> Any:
    try:
        return _transport().trusting(ca)
    except OSError as error:
        raise ConfigurationError(f"ca of Webhook must be a file with certificates: {error}") from error


def _parsed(url: object) -> tuple[str, int, str]:
    """Host, port and target of a URL."""
    try:
        if not isinstance(url, str) or not url.isascii() or any(ord(char) <= 32 or ord(char) == 127 for char in url):
            raise ValueError
        parts = urlsplit(url)
        port = 443 if parts.port is None else parts.port
        if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.fragment or not port:
            raise ValueError
    except ValueError:
        # Not the URL itself: its path may be a secret.
        raise ConfigurationError(
            "url of Webhook must be an https:// URL in ASCII, without user, password and fragment"
        ) from None
    return parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _key(secret: object) -> bytes:
    try:
        if not isinstance(secret, str) or not secret.startswith(_PREFIX):
            raise ValueError
        found = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise ConfigurationError(f"secret of Webhook must be {_PREFIX} and base64") from None
    if len(found) not in _SECRET_BYTES:
        raise ConfigurationError(f"secret of Webhook must have 24 to 64 bytes as base64 after {_PREFIX}, not {len(found)}")
    return found
