"""Who did what: every write, to the log and to a stream in Redis for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Message, Send

from broker.accounts import Account, Role
from broker.connection import Connection
from broker.gateway.access import READING
from broker.keys import AUDIT
from schemas.errors import Failure

log = structlog.get_logger()

KEPT = 10_000
"""About how many actions are kept."""


@dataclass(frozen=True, slots=True)
class Action:
    """A write that somebody sent, and how it was answered."""

    at: int
    """Redis time in milliseconds."""
    who: str
    address: str
    method: str
    path: str
    status: int


class Audit:
    """The actions on one Redis. Deliveries that subscribers take are none."""

    def __init__(self, connection: Callable[[], Connection]) -> None:
        self._connection = connection

    @asynccontextmanager
    async def listening(
        self, request: HTTPConnection, send: Send
    ) -> AsyncIterator[Send]:
        """Lend a ``send`` that hears how a write is answered; then write that down."""
        statuses: list[int] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            yield sending
        finally:
            if statuses and request.scope["method"] not in READING:
                await self._note(request, statuses[0])

    async def last(self, count: int) -> list[Action]:
        """Return the newest actions, newest first.

        Raises:
            Unreachable: Redis does not answer.
        """
        rows = await self._connection().ask(
            "XREVRANGE", AUDIT, "+", "-", "COUNT", count
        )
        return [_action(entry, fields) for entry, fields in rows]

    async def _note(self, request: HTTPConnection, status: int) -> None:
        if getattr(request.state, "role", None) is Role.SUBSCRIBER:
            return
        account: Account | None = getattr(request.state, "account", None)
        fields = {
            "who": account.name if account else "",
            "address": request.client.host if request.client else "",
            "method": request.scope["method"],
            "path": request.scope["path"][:2048],
            "status": str(int(HTTPStatus(status))),
        }
        log.info("action", **fields)
        pairs = [part for pair in fields.items() for part in pair]
        try:
            await self._connection().ask(
                "XADD", AUDIT, "MAXLEN", "~", KEPT, "*", *pairs
            )
        except Failure as error:  # the answer is true all the same
            log.warning("action_not_kept", error=str(error), **fields)


def _action(entry: bytes, fields: dict[bytes, bytes]) -> Action:
    told = {name.decode(): value.decode() for name, value in fields.items()}
    return Action(
        int(entry.split(b"-")[0]),
        told["who"],
        told["address"],
        told["method"],
        told["path"],
        int(told["status"]),
    )
