"""A group that Redis has lost, and half of a script that it has kept (R9, R25)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from broker.deliveries import Begun, Refused
from broker.holding import Nack
from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import Process, begin, collect, read

URL = "https://cdn.example/1"
KEYS = ScopeKeys(SCOPE)


async def lose_group(manager: BackgroundFetchManager) -> None:
    await manager.connection.ask("XGROUP", "DESTROY", KEYS.events, "a")


async def test_a_begin_without_the_group_leaves_nothing_half_done(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R22: one that has to wait must not cost another, in the same call, its lease."""
    sub = await process()
    fetch = await manager.fetch("x", URL)
    await fetch.click()
    await fetch.click()
    await (await manager.fetch("y", URL)).click()
    _, later, other = await read(sub)
    await lose_group(manager)

    begun, waits = await asyncio.gather(sub.begin(other), sub.begin(later))

    leases = KEYS.subscriber("a").leases
    assert isinstance(begun, Begun)
    assert waits is Refused.WAIT
    assert await manager.connection.ask("ZSCORE", leases, other.member) is not None


async def test_a_delivery_fails_and_comes_again_without_the_group(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """R9, R20: what is due is collected, handled and acknowledged as ever."""
    sub = await process()
    await (await manager.fetch("x", URL)).abort()
    begun = await begin(sub, (await read(sub))[0])
    await lose_group(manager)

    nacked = await sub.nack(begun, failed=True, delay=timedelta(0), reason="no")
    [again] = await collect(sub)
    acked = await sub.ack(await begin(sub, again))
    await sub.join(again=True)
    [known] = await read(sub)

    assert nacked is Nack.WAITING
    assert acked
    assert await sub.begin(known) is Refused.DONE


async def test_a_holder_without_a_lease_is_taken_for_dead_a_lease_later(
    manager: BackgroundFetchManager, process: Process, clock: Clock, settings: Settings
) -> None:
    """R25: the append-only file may break off between the two."""
    dead, heir = await process(), await process()
    await (await manager.fetch("x", URL)).abort()
    [delivery] = await read(dead)
    await begin(dead, delivery)
    await manager.connection.ask("DEL", KEYS.subscriber("a").leases)

    met = await heir.begin(delivery)
    early = await heir.expire(delivery.member)
    await clock.age_deliveries("a", settings.lease)
    [found] = await heir.expired()

    assert met is Refused.HELD
    assert early is Nack.STALE
    assert await heir.expire(found) is Nack.WAITING
