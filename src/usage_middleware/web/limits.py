"""Limits on the usage API as headers and as refusals: of a viewer, and of an address whose credentials are refused."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from usage_middleware.errors import ConfigurationError
from usage_middleware.plans.declared import DeclaredPlans
from usage_middleware.store.admission import Admission, Rate, RateState
from usage_middleware.web.errors import Refused

#: How often the credentials from one address may be refused, and those that people sign in with.
REFUSED, REFUSED_SIGN_INS = Rate(30, 60), Rate(10, 60)
#: How many addresses are remembered; then those that were refused longest ago are forgotten.
MOST_ADDRESSES = 10_000
#: Whoever has one IPv6 address has all that begin alike.
_IPV6_NETWORK = 64


def check_plans(limits: Mapping[str, object], declared: DeclaredPlans) -> None:
    """Check that the plans of `limit_by_plan` are declared.

    Raises:
        ConfigurationError: naming one that is not.
    """
    for name in limits:
        if name not in declared.by_name:
            names = ", ".join(declared.by_name) or "(none is declared)"
            raise ConfigurationError(f"limit_by_plan: the plans are {names}; there is no {name!r}")


def limit_headers(admission: Admission) -> Mapping[str, str]:
    """What an answer says of the viewer's limits: all of them, and the tightest one as `X-RateLimit-...`."""
    if not admission.states:
        return {}
    states = {_name(state, admission): state for state in admission.states}
    tightest = min(admission.states, key=lambda state: (state.remaining, state.rate.requests))
    return {
        "X-RateLimit-Limit": str(tightest.rate.requests),
        "X-RateLimit-Remaining": str(tightest.remaining),
        "X-RateLimit-Reset": str(_seconds(admission.now_us + tightest.reset_us)),
        "RateLimit-Policy": ", ".join(f'"{name}";q={one.rate.requests};w={one.rate.seconds}' for name, one in states.items()),
        "RateLimit": ", ".join(f'"{name}";r={one.remaining};t={_seconds(one.reset_us)}' for name, one in states.items()),
    }


def _name(state: RateState, admission: Admission) -> str:
    return "requests" if len(admission.states) == 1 else f"requests-{state.rate.seconds}s"


def over_limit(admission: Admission) -> Refused:
    """The error of a viewer that has asked too often."""
    seconds = _seconds(admission.wait_us)
    headers = {**limit_headers(admission), "Retry-After": str(seconds)}
    return Refused("rate_limited", f"You have asked too often. Try again in {seconds} seconds.", headers)


def _seconds(microseconds: int) -> int:
    return math.ceil(microseconds / 1_000_000)


class RefusedAddresses:
    """Counts, in this process, how often credentials from one address were refused.

    `monotonic` is in seconds; `rate` is how often they may be.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, rate: Rate = REFUSED) -> None:
        self._monotonic = monotonic
        self._rate = rate
        #: When what an address was refused so far is forgiven, in the order in which they were refused last.
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, address: str) -> int:
        """Note a refusal; how many seconds until the next one is answered as such, 0 if this one is."""
        step, now = self._rate.seconds / self._rate.requests, self._monotonic()
        until = max(self._until.pop(address, now), now)
        wait = until + step - now - self._rate.seconds
        # Without a lock, so that a fork can't leave one behind: two refusals at once may count as one.
        self._until[address] = until if wait > 0 else until + step
        if len(self._until) > MOST_ADDRESSES:
            self._until.popitem(last=False)
        return math.ceil(wait) if wait > 0 else 0


def over_attempts(seconds: int) -> Refused:
    """The error of an address from which too many credentials were refused."""
    message = f"Too many credentials from this address were refused. Try again in {seconds} seconds."
    return Refused("rate_limited", message, {"Retry-After": str(seconds)})


def public_address(peer: str) -> str | None:
    """The address of a connection, of IPv6 its network; None for a private one, behind which there is a proxy.

    >>> public_address("93.184.215.14"), public_address("10.0.0.7"), public_address("2a00:1450::1"), public_address("")
    ('93.184.215.14', None, '2a00:1450::/64', None)
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return _named(mapped or address) if (mapped or address).is_global else None


def named_address(given: str) -> str:
    """The address that an application gave: of IPv6 its network, else as it is."""
    try:
        return _named(ip_address(given.strip()))
    except ValueError:
        return given[:256]


def _named(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    host_bits = 128 - _IPV6_NETWORK
    return f"{IPv6Address(int(address) >> host_bits << host_bits)}/{_IPV6_NETWORK}"
