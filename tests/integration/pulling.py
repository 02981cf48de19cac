"""A subscriber over HTTP, as tests need one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from httpx2 import AsyncClient, Response

from tests.integration.clock import SCOPE


@dataclass(frozen=True, slots=True)
class Caller:
    """A program that handles events over HTTP."""

    client: AsyncClient
    name: str = "billing"

    @property
    def path(self) -> str:
        """The subscriber's address."""
        return f"/api/v1/scopes/{SCOPE}/subscribers/{self.name}"

    async def join(self, **form: Any) -> dict[str, Any]:
        """Make sure that the subscriber exists."""
        answer = await self.client.put(self.path, json=form)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def pull(self, key: str | None = None, **form: Any) -> list[dict[str, Any]]:
        """Take deliveries."""
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.client.post(
            f"{self.path}/pull", json=form, headers=headers, timeout=90
        )
        assert answer.status_code == 200, answer.text
        deliveries: list[dict[str, Any]] = answer.json()["deliveries"]
        return deliveries

    async def post(
        self, verb: str, deliveries: list[dict[str, Any]], **form: Any
    ) -> Response:
        """Say what became of deliveries."""
        tokens = [one["token"] for one in deliveries]
        return await self.client.post(
            f"{self.path}/{verb}", json={"tokens": tokens, **form}
        )
