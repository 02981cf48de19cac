"""The hook that opens sockets, and refuses to for forbidden addresses (guarantee 8).

libcurl calls it with the address that it is about to dial: after DNS, for each address
and each family. A pooled connection was opened by it too, and a pool has one policy.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from workers.reach import Reach

SOCKET_BAD = -1
"""libcurl's word for: there is no socket for this address."""


class Dialled(NamedTuple):
    """The address that is about to be dialled, as libcurl gives it."""

    family: int
    socktype: int
    protocol: int
    addr: tuple[str, int] | tuple[str, int, int, int] | bytes


class Opened:
    """A new socket on its way to libcurl.

    pycurl duplicates the descriptor and lets go of this, which closes the original.
    """

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    def fileno(self) -> int:
        """Return the descriptor to duplicate."""
        return self._socket.fileno()

    def __del__(self) -> None:
        self._socket.close()


class Guard:
    """Opens the sockets of one exchange, to addresses within reach."""

    def __init__(self, reach: Reach, *, proxy_port: int | None = None) -> None:
        """With ``proxy_port`` only that is dialled: the proxy's address is trusted."""
        self.refusal: str | None = None
        """Why an address was refused since ``reset``, if one was."""
        self.failure: Exception | None = None
        """What kept a socket from being opened, as having no descriptors left."""
        self._reach = reach
        self._proxy_port = proxy_port

    def reset(self) -> None:
        """Begin another exchange."""
        self.refusal = self.failure = None

    def open_socket(self, purpose: int, address: Dialled) -> Opened | int:
        """Return a socket for ``address``, or ``SOCKET_BAD``. Never raises."""
        try:
            if self._may_dial(address):
                return Opened(
                    socket.socket(address.family, address.socktype, address.protocol)
                )
        except Exception as error:
            # Nothing can pass through libcurl, which reports a failed connection.
            self.failure = error
        return SOCKET_BAD

    def _may_dial(self, address: Dialled) -> bool:
        host, port = address.addr[0], address.addr[1]
        if not isinstance(host, str):
            self.refusal = "not an internet address"
            return False
        if self._proxy_port is not None:
            self.refusal = None if port == self._proxy_port else "not the proxy"
            return self.refusal is None
        refusal = self._reach.refusal(host, port)
        if refusal is not None:
            self.refusal = refusal
            return False
        # A name with public and with forbidden addresses is a sign of rebinding: after
        # a refusal only what an operator excepted is dialled.
        return self.refusal is None or self._reach.excepts(host, port)
