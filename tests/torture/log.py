"""What Redis wrote into its append-only file: one order of all that happened there.

The order in which processes say that they did something proves little, since each may
be held up before it says so. The order of the file is that of the writes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from broker.keys import FetchKeys, ScopeKeys


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


Entry = Published | Follows | Changed


def entries(path: Path, scope: str) -> Iterator[Entry]:
    """Read all that the file says about the events of ``scope``, in its order."""
    stream = ScopeKeys(scope).events.encode()
    key = re.escape(FetchKeys(scope, "UID").events).replace("UID", "([0-9a-f]+)")
    about = re.compile(key.encode())
    with path.open("rb") as log:
        while command := _command(log):
            if command[0].upper() == b"XADD" and command[1] == stream:
                fields = dict(zip(command[3::2], command[4::2], strict=True))
                yield Published(fields[b"delivery"].decode())
            elif command[0].upper() == b"HSET" and (of := about.fullmatch(command[1])):
                uid = of[1].decode()
                for field, value in zip(command[2::2], command[3::2], strict=True):
                    if row := _row(uid, field.decode(), value):
                        yield row


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


def _command(log: IO[bytes]) -> list[bytes]:
    """The next command; nothing at the end, which may break off in one."""
    head = log.readline()
    while head.startswith(b"#"):  # a timestamp
        head = log.readline()
    if not head.endswith(b"\n"):
        return []
    words = []
    for _ in range(int(head[1:])):
        size = log.readline()
        if not size.endswith(b"\n"):
            return []
        words.append(log.read(int(size[1:]) + 2)[:-2])
    return words
