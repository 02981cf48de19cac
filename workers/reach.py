"""What a worker may connect to: what the policy allows, and no server of its own.

A network that an operator excepted may hold the Redis that carries the fetches. A
producer's URL must not lead there, whatever the exception (faults 33).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from schemas.addresses import AddressPolicy, canonical
from schemas.errors import Unreachable

REDIS_PORT = 6379


class Endpoint(NamedTuple):
    """An address in its canonical spelling, and a port."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Reach:
    """The addresses that may be dialled; ``closed`` are servers that this one uses.

    A server on this machine is closed at every address of the machine.
    """

    policy: AddressPolicy
    closed: tuple[Endpoint, ...] = ()

    def refusal(self, address: str, port: int) -> str | None:
        """Return why the port of this address may not be dialled, or None."""
        return self.policy.refusal(address) or self._closed(address, port)

    def excepts(self, address: str, port: int) -> bool:
        """Whether an operator's exception, and not the table, allows it."""
        return self.policy.excepts(address) and not self._closed(address, port)

    def _closed(self, address: str, port: int) -> str | None:
        servers = [server.address for server in self.closed if server.port == port]
        if not servers:
            return None
        found = canonical(address) or address
        if found in servers or (_is_here(found) and any(map(_is_here, servers))):
            return f"a server of this worker's own (port {port})"
        return None


def redis_endpoints(url: str) -> tuple[Endpoint, ...]:
    """Where the Redis of this URL listens; nowhere if it is a unix socket. Blocks.

    Raises:
        Unreachable: its name has no address.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return ()
    host, port = parts.hostname or "localhost", parts.port or REDIS_PORT
    try:
        return tuple(Endpoint(each, port) for each in addresses_of(host))
    except OSError as error:
        raise Unreachable(f"no address for Redis at {host!r}: {error}") from error


def addresses_of(host: str) -> Iterable[str]:
    """Look up the addresses of a name, each once, in the system's order. Blocks.

    Raises:
        OSError: there are none.
    """
    # As bytes, a name that is no name is the resolver's error, and not Python's.
    name = host.encode() if host.isascii() else host
    rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    found = (str(row[4][0]) for row in rows)
    return dict.fromkeys(canonical(address) or address for address in found)


def _is_here(address: str) -> bool:
    """Whether this machine has the address: no other can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
