"""What pages cost: as much with very many fetches as with some."""

from __future__ import annotations

from httpx2 import AsyncClient

from broker.connection import Connection
from broker.manager import BackgroundFetchManager
from tests.benchmarks.forged import forge
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process

FEW, MANY = 1_000, 100_000
PAGES = (
    "/fetches",
    "/fetches?state=failure",
    "/fetches?state=failure&scope=podcasts",
    "/fetches?state=success",
    f"/fetches/{SCOPE}/{1:032x}",
    "/events",
    "/dead",
    "/workers",
    "/origins",
    "/queues",
)


async def cost(connection: Connection, gateway: AsyncClient, page: str) -> list[int]:
    """How many commands a page sends, how many bytes it is sent, and its own bytes."""
    before = await connection.ask("INFO", "stats")
    answer = await gateway.get(page)
    after = await connection.ask("INFO", "stats")
    assert answer.status_code == 200
    names = ("total_commands_processed", "total_net_output_bytes")
    return [*(int(after[name]) - int(before[name]) for name in names), len(answer.text)]


async def test_a_hundred_thousand_ended_fetches_make_no_page_dearer(
    gateway: AsyncClient, manager: BackgroundFetchManager, process: Process
) -> None:
    """At most half as much again as with a thousand; in fact the same."""
    await process()
    costs: list[dict[str, list[int]]] = []
    for count in (FEW, MANY):
        await forge(manager.connection, SCOPE, count)
        for page in PAGES:  # what is looked at once, for all pages of some seconds
            await gateway.get(page)
        costs.append(
            {page: await cost(manager.connection, gateway, page) for page in PAGES}
        )

    few, many = costs
    for page in PAGES:
        for less, more in zip(few[page], many[page], strict=True):
            assert more <= 1.5 * less + 50, (page, few[page], many[page])
