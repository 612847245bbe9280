"""Which addresses a webhook may be sent to: those of the public internet."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

#: Networks of IPv6 that stand for an address of IPv4.
_NAT64 = IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """An address, or a URL, that nothing is sent to."""


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host, asked once.

    Raises:
        Refused: one of them is not public: then none is used, else a name could have a public and a private one in turns.
        OSError: the name can't be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise Refused(f"{host} has the address {address}, which is not public; allow_private=True allows it")
    return addresses


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet.

    >>> is_public("93.184.215.14"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1"), is_public("64:ff9b::7f00:1")
    (True, False, False, False)
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = _inner(found)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The address of IPv4 that one of IPv6 stands for."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
