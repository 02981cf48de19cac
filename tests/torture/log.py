"""What Redis wrote into its append-only file: one order of all that happened there.

The order in which processes say that they did something proves little, since each may
be held up before it says so. The order of the file is that of the writes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hiredis

from broker.keys import FetchKeys, ScopeKeys

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Registered:
    """A background fetch was registered."""

    uid: str


@dataclass(frozen=True, slots=True)
class Published:
    """An event was appended to the stream."""

    event: str
    """``<uid>/<event>``"""


@dataclass(frozen=True, slots=True)
class Follows:
    """An event names the one before it in its fetch."""

    event: str
    predecessor: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A delivery got another state."""

    delivery: str
    """``<uid>/<event>/<subscriber>``"""
    status: str
    attempt: int
    nonce: str
    consumer: str

    @property
    def process(self) -> int:
        """The process that has it, or had it last."""
        return int(self.consumer.split(":")[1])


@dataclass(frozen=True, slots=True)
class Leased:
    """The lease of a delivery that somebody holds ends later than before."""

    delivery: str
    """``<uid>/<event>/<subscriber>``"""


Entry = Registered | Published | Follows | Changed | Leased


def entries(path: Path, scope: str) -> Iterator[Entry]:
    """Read all that the file says about the events of ``scope``, in its order."""
    keys = ScopeKeys(scope)
    stream = keys.events.encode()
    fetch = _pattern(FetchKeys(scope, "NAME").fetch, "[0-9a-f]+")
    about = _pattern(FetchKeys(scope, "NAME").events, "[0-9a-f]+")
    leases = _pattern(keys.subscriber("NAME").leases, ".+")
    for command in _commands(path):
        if command[0] == b"XADD" and command[1] == stream:
            fields = dict(zip(command[3::2], command[4::2], strict=True))
            yield Published(fields[b"delivery"].decode())
        elif command[0] == b"HSET" and (of := about.fullmatch(command[1])):
            uid = of[1].decode()
            for field, value in zip(command[2::2], command[3::2], strict=True):
                if row := _row(uid, field.decode(), value):
                    yield row
        elif command[0] == b"HSET" and command[2] == b"seq":
            if of := fetch.fullmatch(command[1]):
                yield Registered(of[1].decode())
        elif command[0] == b"ZADD" and (of := leases.fullmatch(command[1])):
            for member in command[3::2]:
                delivery = member.decode().split("/", 1)[1]
                yield Leased(f"{delivery}/{of[1].decode()}")


def _pattern(key: str, name: str) -> re.Pattern[bytes]:
    return re.compile(re.escape(key).replace("NAME", f"({name})").encode())


def _row(uid: str, field: str, value: bytes) -> Entry | None:
    event, *rest = field.split("|")
    if not rest:
        predecessor = value.decode().split(" ")[4]
        if predecessor == "-":
            return None
        return Follows(f"{uid}/{event}", f"{uid}/{predecessor}")
    if len(rest) > 1:  # its history, or a step of its handler
        return None
    status, _, attempt, nonce, consumer, *_ = value.decode().split(" ")
    return Changed(f"{uid}/{event}/{rest[0]}", status, int(attempt), nonce, consumer)


def _commands(path: Path) -> Iterator[list[bytes]]:
    """All commands, their names in capitals; the last may break off."""
    reader = hiredis.Reader()
    with path.open("rb") as log:
        while chunk := log.read(_CHUNK):
            reader.feed(chunk)
            while command := reader.gets():
                assert isinstance(command, list)
                yield [command[0].upper(), *command[1:]]
