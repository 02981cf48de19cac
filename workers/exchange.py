"""What one HTTP exchange is made of: what goes out, what takes the answer, what fails.

One exchange is one request and one final response. Redirects, retries and ranges are
decided elsewhere, from what an exchange brought back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from schemas.records import ResponseHead


class Fault(StrEnum):
    """Why an exchange brought no whole response."""

    OFFLINE = "offline"
    """The origin was not reached: no such name, refused, unreachable, or too slow."""
    NETWORK = "network"
    """Reached, then lost: reset, cut short, silent, or an HTTP/2 stream error."""
    TLS = "tls"
    """The certificate or the TLS version is not acceptable."""
    FORBIDDEN = "forbidden"
    """The address, or the URL of a redirect, may not be reached (guarantee 8)."""
    MALFORMED = "malformed"
    """What the origin sent is not HTTP, or not unambiguous."""
    LIMIT = "limit"
    """The head of the response is larger than allowed."""
    STOPPED = "stopped"
    """The sink refused the rest of the body, or the transport was closed."""


class TransferError(Exception):
    """An exchange ended without a whole response; ``detail`` says how, for people."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault
        self.detail = detail


class Body(Protocol):
    """The bytes of a request, read from first to last, and again where it is sent anew.

    What it raises ends the exchange and is raised again by it.
    """

    length: int

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``; none of them are left at the end.

        Raises:
            Congested: they are not at hand yet.
        """

    def rewind(self) -> None:
        """Begin again with the first byte."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request on its way to the origin; ``url`` is serialised and checked.

    Its headers hold secrets, which its text must not show.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: Body | None = None


class Sink(Protocol):
    """Takes the response. Called from the event loop, so it must not block for long.

    What it raises ends the exchange and is raised again by it, unless it is Congested:
    then these bytes are given again when there is room for them, and none before.
    """

    def head(self, head: ResponseHead) -> bool:
        """Take the final head, once. False: the body is not wanted."""

    def write(self, chunk: bytes) -> bool:
        """Take the next bytes of the body as sent, undecoded. False: stop here."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bounds of every exchange; times are in seconds."""

    connect_timeout: float = 10.0
    """From the start to a connection ready for the request, names and TLS included."""
    first_byte_timeout: float = 30.0
    """From the request sent to the whole response head, however it drips."""
    low_speed_time: float = 30.0
    """A body must bring 1 byte a second on the average of so long a time."""
    max_header_bytes: int = 64 * 1024
    """Heads, informational ones and trailers of one exchange together."""
    max_connections_per_host: int = 32
    """Exchanges with one origin at a time; more of them wait their turn."""
    connections: int = 256
    """Exchanges at a time."""
    buffer: int = 1024 * 1024
    """Bytes read from a connection at once; as many wait in memory during a pause."""
    transfer_rate: int | None = None
    """Bytes a second of one exchange, each way."""
    rate: int | None = None
    """Bytes a second of all exchanges, both ways together."""

    @property
    def stall_time(self) -> float:
        """``low_speed_time``, but longer than a limited transfer rests (a second)."""
        limited = self.transfer_rate is not None
        return max(self.low_speed_time, 3.0) if limited else self.low_speed_time

    @property
    def expect_timeout(self) -> float:
        """How long a large body waits for the origin to ask for it."""
        return min(1.0, self.first_byte_timeout / 2)

    @property
    def interval(self) -> float:
        """How often progress is looked at: four times within the shortest limit."""
        shortest = min(self.first_byte_timeout, self.low_speed_time)
        return min(max(shortest / 4, 0.01), 1.0)
