"""Which steps of a delivery's handler are done: remembered between its attempts."""

from __future__ import annotations

from broker.connection import Connection
from broker.deliveries import DeliveryName
from broker.settings import Settings
from schemas.errors import InvalidState


class Steps:
    """The steps of one delivery, as the process sees them that holds it."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        delivery: DeliveryName,
        nonce: str,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._delivery = delivery
        self._nonce = nonce

    async def is_done(self, step: str) -> bool:
        """Whether an attempt has completed ``step``.

        Raises:
            InvalidState: another process has the delivery now.
            Unreachable: Redis does not answer.
        """
        return await self._ask(step, complete=False)

    async def complete(self, step: str) -> None:
        """Remember that ``step`` is done, for as long as the fetch is retained.

        Raises:
            InvalidState: another process has the delivery now, and may do it again.
            Unreachable: Redis does not answer. It may have been remembered.
        """
        await self._ask(step, complete=True)

    async def _ask(self, step: str, *, complete: bool) -> bool:
        keys, arguments = self._delivery.context(self._settings)
        answer: bytes = await self._connection.run(
            "step", keys, [*arguments, self._nonce, step, int(complete)]
        )
        if answer == b"stale":
            raise InvalidState(f"step {step!r}: another process has the delivery")
        return answer == b"done"
