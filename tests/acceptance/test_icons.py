"""An icon comes through a worker's process like any other fetch."""

from __future__ import annotations

from datetime import timedelta

from broker.icons import Icons
from broker.manager import BackgroundFetchManager
from tests.acceptance.fleet import Fleet
from workers.demo.origin import Origin

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


async def test_a_worker_brings_an_icon_that_a_display_waits_for(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """BF-DISP-05: and it is here at once from then on."""
    origin.add("/i.png", PNG)
    fleet.start("worker")
    icons = Icons(manager.connection, manager.settings)
    try:
        first = await icons.body(origin.url("/i.png"), wait=timedelta(seconds=90))
        second = await icons.body(origin.url("/i.png"))
    finally:
        await icons.aclose()

    assert first is not None
    assert first == second
    assert (first.type, first.body, len(origin.log)) == ("image/png", PNG, 1)
