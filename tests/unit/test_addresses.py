"""The address policy: BF-SEC-07, and the addresses through which it is often passed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import AddressPolicy
from schemas.errors import ConfigError

PUBLIC = """
    8.8.8.8 1.1.1.1 100.63.255.254 100.128.0.1 172.15.255.255 172.32.0.1 126.255.255.255
    128.0.0.1 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001::1 2001:200::1
    ::ffff:8.8.8.8
"""
DENIED = {
    "this network": "0.0.0.0 0.1.2.3",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.255.255 fc00::1 fdff::1",
    "shared address space": "100.64.0.1 100.127.255.255",
    "loopback": "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1",
    "link-local": "169.254.0.1 fe80::1 fe80::1%eth0 febf::1",
    "cloud metadata": """
        169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16
        ::ffff:169.254.169.254 fd00:ec2::254 fd20:ce::254
    """,
    "IETF protocol assignments": "192.0.0.8 192.0.0.170 2001:1::1 2001:1ff::1",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
    "6to4 relay": "192.88.99.1",
    "benchmarking": "198.18.0.1 198.19.255.255 2001:2::1",
    "multicast": "224.0.0.1 239.255.255.255 ff02::2",
    "reserved": "240.0.0.1 255.255.255.254",
    "broadcast": "255.255.255.255",
    "unspecified": "::",
    "IPv4-compatible": "::127.0.0.1 ::8.8.8.8",
    "IPv4-translated": "::ffff:0:127.0.0.1",
    "NAT64": "64:ff9b::a9fe:a9fe 64:ff9b::808:808",
    "local NAT64": "64:ff9b:1::1",
    "Teredo": "2001::1 2001:0:ffff::1",
    "ORCHID": "2001:10::1",
    "ORCHIDv2": "2001:20::1",
    "6to4": "2002:a00:1::1 2002:7f00:1::",
    "segment routing": "5f00::1",
    "site-local": "fec0::1",
    "discard-only": "100::1",
    "not global unicast": "4000::1 9000::1 200::1",
}


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_allowed(address: str) -> None:
    assert AddressPolicy().refusal(address) is None
    assert not AddressPolicy().excepts(address)


@pytest.mark.parametrize(
    ("address", "reason"),
    [(address, reason) for reason, text in DENIED.items() for address in text.split()],
)
def test_an_address_that_is_not_public_is_denied_with_its_reason(
    address: str, reason: str
) -> None:
    refusal = AddressPolicy().refusal(address)

    assert refusal is not None
    assert refusal.startswith(f"{reason} (")


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "[::1]"])
def test_what_is_no_address_is_denied(text: str) -> None:
    assert AddressPolicy().refusal(text) == "not an IP address"


@given(st.ip_addresses())
def test_what_python_calls_private_or_special_is_denied_too(address: object) -> None:
    ip = ip_address(str(address))
    mapped = getattr(ip, "ipv4_mapped", None) or ip

    if not mapped.is_global or mapped.is_multicast or mapped.is_reserved:
        assert AddressPolicy().refusal(str(ip)) is not None


def test_an_operator_excepts_networks() -> None:
    policy = AddressPolicy.parse("127.0.0.0/8, ::1/128,10.1.2.3")

    assert policy.allow[2] == ip_network("10.1.2.3/32")
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3"):
        assert policy.refusal(address) is None
        assert policy.excepts(address)
    assert policy.refusal("10.1.2.4") == "private (10.0.0.0/8)"
    assert not policy.excepts("10.1.2.4")


def test_the_words_stand_for_the_networks_of_their_kind() -> None:
    policy = AddressPolicy.parse("Loopback, private")

    allowed = ("127.0.0.1", "::1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "fd00::1")
    assert [policy.refusal(address) for address in allowed] == [None] * 6
    assert policy.refusal("169.254.0.1") == "link-local (169.254.0.0/16)"


@pytest.mark.parametrize(
    ("network", "metadata"),
    [
        ("private", "fd00:ec2::254"),
        ("0.0.0.0/0", "169.254.169.254"),
        ("100.64.0.0/10", "100.100.100.200"),
    ],
)
def test_metadata_stays_denied_unless_its_very_address_is_excepted(
    network: str, metadata: str
) -> None:
    wide = AddressPolicy.parse(network)
    exact = AddressPolicy.parse(metadata)

    assert wide.refusal(metadata) is not None
    assert not wide.excepts(metadata)
    assert exact.refusal(metadata) is None


def test_nat64_when_excepted_is_judged_by_what_lies_behind_it() -> None:
    policy = AddressPolicy.parse("64:ff9b::/96")

    assert policy.refusal("64:ff9b::808:808") is None
    assert policy.refusal("64:ff9b::7f00:1") == "loopback (127.0.0.0/8)"
    assert "metadata" in (policy.refusal("64:ff9b::a9fe:a9fe") or "")


@pytest.mark.parametrize("value", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "all"])
def test_an_exception_that_is_no_network_is_refused_with_the_fix(value: str) -> None:
    with pytest.raises(ConfigError, match=r"BGFETCH_ALLOW_NETWORKS: .*loopback") as hit:
        AddressPolicy.parse(f"127.0.0.0/8, {value}")

    assert repr(value) in str(hit.value)


def test_no_exceptions_are_an_empty_policy() -> None:
    assert AddressPolicy.parse("") == AddressPolicy.parse(" , ") == AddressPolicy()
