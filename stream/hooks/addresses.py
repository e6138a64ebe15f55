"""Which addresses a hook may connect to: public ones, unless the operator allows more.

The invariant: the check is made on the very address a socket is about to be connected to, after
every name was resolved, so that a name that answers differently the second time gains nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where a network is refused, and as what. The first that contains the address names it. Sources:
#: IANA's special-purpose registries for IPv4 and IPv6; the clouds' own manuals for single hosts.
_REFUSED: Final = tuple(
    (ipaddress.ip_network(network), name)
    for network, name in (
        ("169.254.169.254/32", "a cloud's metadata service"),
        ("169.254.170.2/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("192.0.0.192/32", "a cloud's metadata service"),
        ("fd00:ec2::/32", "a cloud's metadata service"),
        ("fd20:ce::254/128", "a cloud's metadata service"),
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("0.0.0.0/8", "this host"),
        ("::/128", "this host"),
        # Tunnels and local translation: where a packet ends up is not in the address alone, or not
        # where we would look for it (RFC 6052 puts it elsewhere for each length of prefix).
        ("2001::/32", "a tunnel"),
        ("64:ff9b:1::/48", "a local translation prefix"),
        ("::/96", "reserved"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("fc00::/7", "private"),
        ("fec0::/10", "private"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("100.64.0.0/10", "a provider's shared range"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("100::/64", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("3fff::/20", "reserved"),
        ("5f00::/16", "reserved"),
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class AddressRefusedError(OSError):
    """A connection to an address that hooks must not reach; never leaves this package."""

    def __init__(self, address: str, reason: str) -> None:
        # The same words for every address of a name: aiohttp then hands on the first of them.
        super().__init__(errno.EACCES, "the address is not public")
        self.address = address
        self.reason = reason


def refusal(address: str) -> str | None:
    """Why hooks must not connect to an IP address; None where they may.

    What an IPv6 address carries inside (IPv4-mapped, 6to4, NAT64) is judged as well; Teredo and
    other tunnels are refused, and what is no address at all.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "not an IP address"
    return _refusal(parsed)


def _refusal(address: Address) -> str | None:
    for network, name in _REFUSED:
        if address.version == network.version and address in network:
            return name
    if isinstance(address, ipaddress.IPv6Address):
        inner = _carried(address)
        reasons = [reason for each in inner if (reason := _refusal(each)) is not None]
        if reasons:
            return reasons[0]
        if inner:
            return None
    return None if address.is_global else "reserved"


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may end up at."""
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return []


def socket_factory(*, allow_private: bool) -> Callable[[Any], socket.socket]:
    """Makes the socket for an entry of `getaddrinfo`, just before it is connected to it.

    The socket refuses with `AddressRefusedError`, an `OSError`.
    """

    def make(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if not allow_private and (reason := refusal(str(address[0]))) is not None:
            raise AddressRefusedError(str(address[0]), reason)
        return socket.socket(family=family, type=kind, proto=protocol)

    return make
