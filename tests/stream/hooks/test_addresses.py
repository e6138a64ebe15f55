"""Addresses that hooks must not reach, in every disguise, and the socket that checks them."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.addresses import AddressRefusedError, refusal, socket_factory

FORBIDDEN = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4",
        "240.0.0.0/4", "168.63.129.16/32",
    )
]  # fmt: skip
forbidden_v4 = st.sampled_from(FORBIDDEN).flatmap(lambda n: st.ip_addresses(network=str(n)))


@given(forbidden_v4)
def test_no_disguise_of_a_forbidden_address_passes(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    disguises = [
        str(address),
        f"::ffff:{address}",
        str(ipaddress.IPv6Address(number)),  # IPv4-compatible
        str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)),  # 6to4
        str(ipaddress.IPv6Address((0x64FF9B << 96) | number)),  # NAT64
        str(ipaddress.IPv6Address((0x64FF9B0001 << 80) | number)),  # NAT64, local
        str(ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),  # Teredo's client
        str(ipaddress.IPv6Address((0x20010000 << 96) | (number << 64))),  # Teredo's server
    ]
    for disguise in disguises:
        assert refusal(disguise) is not None, disguise


@given(st.ip_addresses(v=4))
def test_every_address_that_passes_is_public(address: ipaddress.IPv4Address) -> None:
    if refusal(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast
        assert not any(address in network for network in FORBIDDEN)


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_that_passes_is_public(address: ipaddress.IPv6Address) -> None:
    if refusal(str(address)) is None:
        carried = address.ipv4_mapped or address.sixtofour
        assert address.is_global or (carried is not None and carried.is_global)
        assert not address.is_multicast


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("169.254.169.254", "a cloud's metadata service"),
        ("::ffff:169.254.169.254", "a cloud's metadata service"),
        ("fd00:ec2::254", "a cloud's metadata service"),
        ("100.100.100.200", "a cloud's metadata service"),
        ("127.1.2.3", "loopback"),
        ("::1", "loopback"),
        ("::", "this host"),
        ("10.0.0.1", "private"),
        ("fc00::1", "private"),
        ("fe80::1%eth0", "link-local"),
        ("100.64.0.1", "a provider's shared range"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("2001:db8::1", "reserved"),
        # Teredo with public ends: where it leads is the tunnel's business.
        ("2001:0:102:304:0:ffff:fefd:fcfb", "a tunnel"),
        # The last 32 bits are public, the 32 that RFC 6052 reads are the metadata service.
        ("64:ff9b:1:a9fe:a9:fe00:0808:0808", "a local translation prefix"),
        ("64:ff9b::10.0.0.1", "private"),
        ("::93.184.216.34", "reserved"),
        ("nonsense", "not an IP address"),
        ("2130706433", "not an IP address"),
    ],
)
def test_a_refusal_says_what_the_address_is(address: str, reason: str) -> None:
    assert refusal(address) == reason


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses_pass(address: str) -> None:
    assert refusal(address) is None


def test_the_socket_is_made_for_public_addresses_only() -> None:
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    with pytest.raises(AddressRefusedError) as refused:
        socket_factory(allow_private=False)(entry)
    assert (refused.value.address, refused.value.reason) == ("127.0.0.1", "loopback")
    socket_factory(allow_private=True)(entry).close()
