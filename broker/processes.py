"""The processes of ours that live, by what their event loops tell."""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Self

from broker.connection import Connection
from broker.keys import PROCESSES
from broker.settings import milliseconds


class Role(StrEnum):
    """What a process is for."""

    WORKER = "worker"
    SUBSCRIBER = "subscriber"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its role, its name, and of a subscriber ``<scope>/<name>``."""

    role: Role
    name: str
    subscriber: str = ""

    @property
    def host(self) -> str:
        """Where it runs."""
        return self.name.partition(":")[0]

    @property
    def pid(self) -> int | None:
        """Its id there; None if its name does not tell."""
        parts = self.name.split(":")
        return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None

    @property
    def member(self) -> str:
        """Its name among all processes."""
        return f"{self.role} {self.name} {self.subscriber}"

    @classmethod
    def of(cls, member: str) -> Self | None:
        """Read the name that a process has among all; None if its role is not known."""
        try:
            role, name, subscriber = member.split(" ")
            return cls(Role(role), name, subscriber)
        except ValueError:  # of another release
            return None


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """A process that lives."""

    process: Process
    left: timedelta
    """How long it may still be believed."""


def host_name() -> str:
    """This machine's name, as the names of its processes begin."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]


def process_name() -> str:
    """A name for this process, new at every start (R10), that a person can place."""
    return f"{host_name()}:{os.getpid()}:{secrets.token_hex(4)}"


class Processes:
    """All processes on one Redis."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def beat(self, process: Process, lease: timedelta) -> None:
        """Tell that ``process`` lives, and for how long that may be believed.

        Raises:
            Unreachable: Redis does not answer.
        """
        await self._connection.run(
            "beat", [PROCESSES], [process.member, milliseconds(lease)]
        )

    async def leave(self, process: Process) -> None:
        """Tell that ``process`` ends.

        Raises:
            Unreachable: Redis does not answer.
        """
        await self._connection.run("beat", [PROCESSES], [process.member, 0])

    async def alive(self) -> list[Process]:
        """Return the processes that have told that they live, within their lease.

        Raises:
            Unreachable: Redis does not answer.
        """
        return [look.process for look in await self.look()]

    async def look(self) -> list[ProcessLook]:
        """The same, with how long each may still be believed.

        Raises:
            Unreachable: Redis does not answer.
        """
        now = await self._connection.now()
        rows: list[tuple[bytes, float]] = await self._connection.ask(
            "ZRANGEBYSCORE", PROCESSES, f"({now}", "+inf", "WITHSCORES"
        )
        return [
            ProcessLook(process, timedelta(milliseconds=float(until) - now))
            for member, until in rows
            if (process := Process.of(member.decode())) is not None
        ]
