"""A name server in tests: it answers as scripted, lies, or says nothing (RFC 1035)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import NamedTuple, Self

from typing_extensions import override

A, CNAME, TXT, AAAA = 1, 5, 16, 28
SERVFAIL, NXDOMAIN = 2, 3
_LARGEST = 512
"""Bytes of an answer over UDP; a longer one is asked for again over TCP."""

_ASKED_FOR = b"\xc0\x0c"
"""The name of the question, as a pointer to it."""


class Record(NamedTuple):
    """A resource record, of the name that was asked for if of no other."""

    kind: int
    value: bytes
    owner: bytes = _ASKED_FOR


Script = Callable[[int, int], list[Record] | int | bytes | None]
"""From how often a name was asked for before, and a record type: records of the name,
an error code, an answer as it is, or None for no answer."""


def addresses(*values: str) -> Script:
    """Answer with these addresses."""
    packed = [ip_address(value) for value in values]

    def answer(count: int, kind: int) -> list[Record]:
        wanted = 4 if kind == A else 6
        return [Record(kind, each.packed) for each in packed if each.version == wanted]

    return answer


def alias(name: str, *values: str) -> Script:
    """Answer with another name and its addresses, as a resolver that looked on does."""

    def answer(count: int, kind: int) -> list[Record]:
        owner = _encoded(name)
        found = addresses(*values)(count, kind)
        assert isinstance(found, list)
        owned = [Record(each.kind, each.value, owner) for each in found]
        return [Record(CNAME, owner), *owned]

    return answer


class Resolver(asyncio.DatagramProtocol):
    """Answers on port 53 of 127.0.0.1; names without a script do not exist."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()
        """How often a name was asked for, by record type."""
        self._scripts = scripts

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        place = ("127.0.0.1", 53)
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, place)
        self._tcp = await asyncio.start_server(self._serve, *place)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answer(data)
        if answer is not None and len(answer) > _LARGEST:
            # Truncated: the same header with the TC bit, and the question alone.
            end = _question(answer)[2]
            answer = answer[:2] + b"\x87\x80\0\1" + bytes(6) + answer[12:end]
        if answer is not None:
            self._udp.sendto(answer, addr)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                answer = self._answer(await reader.readexactly(length))
                if answer is not None:
                    writer.write(len(answer).to_bytes(2) + answer)
        writer.close()

    def _answer(self, query: bytes) -> bytes | None:
        name, kind, end = _question(query)
        script = self._scripts.get(name)
        said = script(self.asked[name, kind], kind) if script else NXDOMAIN
        self.asked[name, kind] += 1
        if said is None or isinstance(said, bytes):
            return said
        records: list[Record] = [] if isinstance(said, int) else said
        code = said if isinstance(said, int) else 0
        counts = b"\0\1" + len(records).to_bytes(2) + bytes(4)
        answer = query[:2] + b"\x85" + bytes((0x80 + code,)) + counts + query[12:end]
        for kind, value, owner in records:
            # Class IN, to be kept for no second.
            answer += owner + kind.to_bytes(2) + b"\0\1" + bytes(4)
            answer += len(value).to_bytes(2) + value
        return answer


def _question(message: bytes) -> tuple[str, int, int]:
    """The name and the record type asked for, and where the question ends."""
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    kind = int.from_bytes(message[at + 1 : at + 3])
    return ".".join(labels).lower(), kind, at + 5


def _encoded(name: str) -> bytes:
    labels = (label.encode() for label in name.split("."))
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
