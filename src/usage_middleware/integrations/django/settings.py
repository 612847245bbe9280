"""The setting `USAGE_MIDDLEWARE`, and the `Usage` of the project that is made from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from usage_middleware.errors import ConfigurationError
from usage_middleware.usage import Usage
from usage_middleware.web.app_options import UsageAppOptions
from usage_middleware.web.auth import KeyAuth

NAME = "USAGE_MIDDLEWARE"
#: What the usage API takes; everything else is for `Usage`.
VIEW_OPTIONS = frozenset({"auth", *UsageAppOptions.__optional_keys__})
#: Options that may be the dotted path of what they take.
_BY_NAME = frozenset(
    {"identify", "keys", "endpoint_label", "visible_endpoints", "exclude", "auth", "clock", "client_address", "on_access"}
)
_USAGE_OPTIONS = frozenset(inspect.signature(Usage).parameters)


@cache
def get_usage() -> Usage:
    """The project's `Usage`, made from `USAGE_MIDDLEWARE` when it is first asked for.

    Raises:
        ConfigurationError: naming what is wrong in the setting.
    """
    options = _options()
    if "usage" in options:
        return _given(options["usage"])
    return Usage(**{name: value for name, value in options.items() if name not in VIEW_OPTIONS})


def view_options() -> dict[str, Any]:
    """What the setting says of the usage API. Without `auth`, an API key of the key directory is asked for."""
    options = _options()
    auth = options.get("auth") or KeyAuth(get_usage().keys)
    return {"auth": auth, **{name: value for name, value in options.items() if name in UsageAppOptions.__optional_keys__}}


def _options() -> dict[str, Any]:
    options = getattr(settings, NAME, None)
    if not isinstance(options, Mapping):
        example = '{"redis": "redis://localhost:6379/0"}'
        raise ConfigurationError(f"{NAME} must be a dictionary, such as {example}, not {options!r}")
    allowed = {"usage"} | VIEW_OPTIONS if "usage" in options else _USAGE_OPTIONS | VIEW_OPTIONS
    for name in options:
        if name not in allowed:
            raise ConfigurationError(f"{NAME}: {name!r} is no option; allowed are {', '.join(sorted(allowed))}")
    return {name: _loaded(name, value) for name, value in options.items()}


def _loaded(name: str, value: Any) -> Any:
    """A value of the setting, imported if it is the dotted path of what the option takes."""
    if name not in _BY_NAME or not isinstance(value, str) or value.startswith("/"):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ConfigurationError(f"{NAME}: {name}: {error}") from error


def _given(value: object) -> Usage:
    try:
        found = import_string(value) if isinstance(value, str) else value
    except ImportError as error:
        raise ConfigurationError(f"{NAME}: usage: {error}") from error
    if not isinstance(found, Usage):
        raise ConfigurationError(f"{NAME}: usage must be a Usage or the dotted path of one, not {type(found).__name__}")
    return found


def _changed(*, setting: str, **_: object) -> None:
    """A test has overridden the setting."""
    if setting == NAME:
        get_usage.cache_clear()


setting_changed.connect(_changed)
