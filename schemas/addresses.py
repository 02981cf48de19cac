"""Which addresses a worker may connect to: an explicit table, and its exceptions.

``ipaddress.is_global`` is not used: what it says depends on the Python version, and it
calls NAT64, 6to4 and some cloud metadata addresses global. The table follows the IANA
special-purpose registries (RFC 6890), RFC 4291 and the documentation of the clouds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self

from schemas.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA = "cloud metadata"
_METADATA = """
    169.254.169.254/32 169.254.169.253/32 169.254.170.2/32 169.254.170.23/32
    169.254.42.42/32 100.100.100.200/32 192.0.0.192/32 168.63.129.16/32
    fd00:ec2::254/128 fd00:ec2::23/128 fd00:ec2::253/128 fd20:ce::254/128
    fd00:42::42/128 fe80::a9fe:a9fe/128
"""

# The first row that holds an address names the reason, so the narrow rows come first.
_DENIED = """
    0.0.0.0/8           this network
    10.0.0.0/8          private
    100.64.0.0/10       shared address space
    127.0.0.0/8         loopback
    169.254.0.0/16      link-local
    172.16.0.0/12       private
    192.0.0.0/24        IETF protocol assignments
    192.0.2.0/24        documentation
    192.31.196.0/24     AS112
    192.52.193.0/24     AMT
    192.88.99.0/24      6to4 relay
    192.168.0.0/16      private
    192.175.48.0/24     AS112
    198.18.0.0/15       benchmarking
    198.51.100.0/24     documentation
    203.0.113.0/24      documentation
    224.0.0.0/4         multicast
    255.255.255.255/32  broadcast
    240.0.0.0/4         reserved
    ::/128              unspecified
    ::1/128             loopback
    ::/96               IPv4-compatible
    ::ffff:0:0/96       IPv4-mapped
    ::ffff:0:0:0/96     IPv4-translated
    64:ff9b::/96        NAT64
    64:ff9b:1::/48      local NAT64
    100::/64            discard-only
    100:0:0:1::/64      dummy prefix
    2001::/32           Teredo
    2001:2::/48         benchmarking
    2001:10::/28        ORCHID
    2001:20::/28        ORCHIDv2
    2001:30::/28        drone remote ID
    2001::/23           IETF protocol assignments
    2001:db8::/32       documentation
    2002::/16           6to4
    2620:4f:8000::/48   AS112
    3fff::/20           documentation
    5f00::/16           segment routing
    fc00::/7            private
    fe80::/10           link-local
    fec0::/10           site-local
    ff00::/8            multicast
    ::/3                not global unicast
    4000::/2            not global unicast
    8000::/1            not global unicast
"""

_WORDS = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
_NAT64 = IPv6Network("64:ff9b::/96")


def _rows() -> Iterator[tuple[Network, str]]:
    for network in _METADATA.split():
        yield ip_network(network), METADATA
    for line in _DENIED.split("\n"):
        network, _, reason = line.strip().partition(" ")
        if network:
            yield ip_network(network), reason.strip()


# (base, mask) as numbers: an address costs one AND and one comparison a row.
_TABLES = {
    version: tuple(
        (int(network.network_address), int(network.netmask), network, reason)
        for network, reason in _rows()
        if network.version == version
    )
    for version in (4, 6)
}


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Denies every address that is not public, except those of ``allow`` (BF-SEC-07).

    A cloud metadata address is excepted only by a network of that one address.
    """

    allow: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read the value of ``BGFETCH_ALLOW_NETWORKS``: networks parted by commas.

        ``loopback`` and ``private`` stand for the networks of that kind.

        Raises:
            ConfigError: a part is neither a network, an address nor one of the words.
        """
        allow: list[Network] = []
        for part in filter(None, (part.strip() for part in value.split(","))):
            try:
                allow += map(ip_network, _WORDS.get(part.lower(), (part,)))
            except ValueError as error:
                raise ConfigError(
                    f"BGFETCH_ALLOW_NETWORKS: {part!r} cannot be used ({error}); give "
                    "networks like '127.0.0.0/8, ::1/128', 'loopback' or 'private'"
                ) from error
        return cls(tuple(allow))

    def refusal(self, address: str) -> str | None:
        """Return why ``address`` is denied, as ``loopback (127.0.0.0/8)``, or None.

        IPv4-mapped addresses count as what they map to. What is no address is denied.
        """
        ip = _parse(address)
        return "not an IP address" if ip is None else self._refusal(ip)

    def excepts(self, address: str) -> bool:
        """Whether an operator's exception, and not the table, allows ``address``."""
        ip = _parse(address)
        return (
            ip is not None
            and any(ip in network for network in self.allow)
            and self._refusal(ip) is None
        )

    def _refusal(self, ip: Address) -> str | None:
        number = int(ip)
        for base, mask, network, reason in _TABLES[ip.version]:
            if number & mask == base and not self._lifts(ip, reason):
                return f"{reason} ({network})"
            if number & mask == base and network == _NAT64:
                # Who lets NAT64 through still means the table for what lies behind it.
                return self._refusal(IPv4Address(number & 0xFFFFFFFF))
        return None

    def _lifts(self, ip: Address, reason: str) -> bool:
        return any(
            ip in network and (reason != METADATA or network.num_addresses == 1)
            for network in self.allow
        )


def canonical(address: str) -> str | None:
    """Return the one spelling of an IP address, IPv4-mapped as IPv4; None if none."""
    ip = _parse(address)
    return None if ip is None else str(ip)


def _parse(address: str) -> Address | None:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip
