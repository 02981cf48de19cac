"""A reader of server-sent events, as tests need one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from httpx2 import AsyncClient, Response

DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream."""

    type: str
    data: Any
    id: str | None
    retry: int | None


class Stream:
    """An open stream."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def message(self) -> Message:
        """Return the next message; one without data has the type ``""``."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif fields:
                    break
        if not fields:
            raise EOFError("the stream has ended")
        return Message(
            fields.get("event", ""),
            json.loads(fields.get("data", "null")),
            fields.get("id"),
            int(fields["retry"]) if "retry" in fields else None,
        )

    async def next(self, *types: str) -> Message:
        """Return the next message of these types."""
        while True:
            message = await self.message()
            if message.type in types:
                return message

    async def ended(self) -> bool:
        """Whether nothing more comes."""
        try:
            await self.message()
        except EOFError:
            return True
        return False


@asynccontextmanager
async def reading(
    client: AsyncClient, path: str, after: str | None = None, **query: str
) -> AsyncIterator[Stream]:
    """Read a stream below ``/api/v1``."""
    headers = {"Last-Event-ID": after} if after else {}
    async with client.stream(
        "GET", f"/api/v1{path}", headers=headers, params=query, timeout=DEADLINE
    ) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        yield Stream(response)
