"""Random histories of deliveries: whatever happens, the books agree in the end."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery
from broker.inbox import Start
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.events import DeliveryOutcome, EventMessage
from schemas.filters import EventFilter
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over

NOW = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
NAMES = ("a", "b", "c")
SETTLED = set(DeliveryOutcome)


def standing(value: str) -> str:
    """What a delivery counts as: a replay does not undo an outcome."""
    words = value.split(" ")
    return words[5] if len(words) > 5 else words[0]


class History:
    """Some subscribers and fetches, to which things happen."""

    def __init__(
        self,
        manager: BackgroundFetchManager,
        settings: Settings,
        stack: AsyncExitStack,
        seed: int,
        filtered: bool,
    ) -> None:
        self.manager = manager
        self.filtered = filtered
        self.random = random.Random(seed)
        self.processes: dict[str, Subscription] = {}
        self.known: dict[str, dict[str, Delivery]] = {name: {} for name in NAMES}
        self.held: list[tuple[Subscription, Begun]] = []
        self.registrations: list[BackgroundFetchRegistration] = []
        self._settings = settings.model_copy(update={"max_deliveries": 2})
        self._stack = stack
        self._clock = Clock(manager)
        self._letters = DeadLetters(manager.connection, self._settings, SCOPE)
        self._subscribers = Subscribers(manager.connection, self._settings, SCOPE)

    async def step(self) -> None:
        """Let one thing happen."""
        happens = self.random.choice(
            [self.publish, self.join, self.leave, self.replay, self.purge, self.crash]
            + self.filtered * [self.join_with_a_filter, self.replay_all]
            + 3 * [self.begin, self.begin, self.ack, self.fail, self.repeat]
        )
        await happens()

    async def publish(self) -> None:
        """A fetch ends, maybe after a click."""
        if len(self.registrations) < 6:
            id = str(len(self.registrations))
            made = await self.manager.fetch(id, "https://cdn.example/1")
            self.registrations.append(made)
            if self.random.random() < 0.5:
                await made.click()
            await made.abort()

    async def join(self) -> None:
        """A subscriber comes."""
        name = self.random.choice(NAMES)
        if name not in self.processes:
            sub = Subscription(self.manager.connection, self._settings, SCOPE, name)
            await sub.join()
            self._stack.push_async_callback(sub.aclose)
            self.processes[name] = sub

    async def join_with_a_filter(self) -> None:
        """A process comes that wants other events than its subscriber had so far."""
        name = self.random.choice(NAMES)
        types = self.random.choice([None, ["click"], ["abort"]])
        takes = EventFilter.of(types, self.random.choice(["*", "*3*", "[01]", "0*"]))
        start: Start = self.random.choice(["new", "all"])
        sub = Subscription(
            self.manager.connection,
            self._settings,
            SCOPE,
            name,
            takes=takes,
            start=start,
        )
        await sub.join()
        self._stack.push_async_callback(sub.aclose)
        self.processes[name] = sub

    async def leave(self) -> None:
        """A subscriber goes for good."""
        if self.processes and self.random.random() < 0.5:
            name = self.random.choice(sorted(self.processes))
            del self.processes[name]
            await self._clock.age_deliveries(name, HOUR)
            assert await self._subscribers.remove(name)

    async def begin(self) -> None:
        """Every process begins what it can."""
        for name, sub in self.processes.items():
            await self._clock.age_deliveries(name, HOUR)
            rows = await self._new(name, sub)
            for entry, message in [*rows, *await sub.collect(9)]:
                event = EventMessage.decode(message)
                self.known[name][entry] = Delivery(entry, event, name)
            for delivery in self.known[name].values():
                begun = await sub.begin(delivery)
                if isinstance(begun, Begun):
                    self.held.append((sub, begun))

    async def _new(self, name: str, sub: Subscription) -> list[tuple[str, bytes]]:
        """New events, begun as they come or not."""
        if self.random.random() < 0.5:
            return await hand_over(sub, 9)
        received = await sub.receive(9, NOW)
        for begun in received.begun:
            self.held.append((sub, begun))
            self.known[name][begun.delivery.entry] = begun.delivery
        return received.rows

    async def ack(self) -> None:
        """One of all that ever began is acknowledged, twice."""
        if self.held:
            sub, begun = self.random.choice(self.held)
            assert await sub.ack(begun) == await sub.ack(begun)

    async def fail(self) -> None:
        """One of all that ever began fails, or is handed back."""
        if self.held:
            sub, begun = self.random.choice(self.held)
            failed = self.random.random() < 0.8
            await sub.nack(begun, failed=failed, delay=NOW, reason="no luck")

    async def repeat(self) -> None:
        """What ended may be told again."""
        await self.ack()
        await self.fail()

    async def crash(self) -> None:
        """Every process loses what it holds."""
        for name, sub in self.processes.items():
            await self._clock.age_deliveries(name, HOUR)
            for member in await sub.expired():
                await sub.expire(member)

    async def replay(self) -> None:
        """Some dead letters are replayed."""
        for letter in await self._letters.find():
            if self.random.random() < 0.5:
                assert await self._letters.replay(letter)

    async def replay_all(self) -> None:
        """A subscriber gets everything again."""
        name = self.random.choice(NAMES)
        await self._subscribers.replay(name, since=HOUR)

    async def purge(self) -> None:
        """Some dead letters are purged."""
        for letter in await self._letters.find():
            if self.random.random() < 0.3:
                assert await self._letters.purge(letter)

    async def finish(self) -> None:
        """Give up what is held, replay what is dead, and acknowledge all."""
        await self.crash()
        for letter in await self._letters.find():
            assert await self._letters.replay(letter)
        for _ in range(3):  # a completion may wait for the click before it
            self.held.clear()
            await self.begin()
            for sub, begun in self.held:
                assert await sub.ack(begun)

    async def check(self, registration: BackgroundFetchRegistration) -> None:
        """Each event has as many outcomes as it counts, and no more than are owed."""
        ask = self.manager.connection.ask
        events: dict[bytes, bytes] = await ask(
            "HGETALL", FetchKeys(SCOPE, registration.uid).events
        )
        rows = {
            key.decode(): value.decode(errors="replace")
            for key, value in events.items()
        }
        for event in (row for row in rows if "|" not in row):
            _, _, owed, settled, _ = rows[event].split(" ")
            outcomes = [
                row
                for row in rows
                if row.startswith(event + "|") and standing(rows[row]) in SETTLED
            ]
            most = 1 if owed == "-" else int(owed)
            assert len(outcomes) == int(settled) <= most
            if event.endswith("abort"):
                await registration.refresh()
                done = int(settled) >= most
                assert registration.records_available == (not done)

    async def check_finished(self) -> None:
        """Nothing is owed to a subscriber that is there."""
        ask = self.manager.connection.ask
        for registration in self.registrations:
            await self.check(registration)
            events = FetchKeys(SCOPE, registration.uid).events
            completion = await ask("HGET", events, "backgroundfetchabort")
            adopted = self.processes and not self.filtered
            if adopted or completion.split(b" ")[2] != b"-":
                assert await registration.settled(timedelta(0)) is not None
        for name in self.processes:
            keys = ScopeKeys(SCOPE).subscriber(name)
            assert await ask("ZCARD", keys.leases) == 0
            assert await ask("ZCARD", keys.due) == 0
            assert await ask("HLEN", keys.dead) == 0
        for look in await self._subscribers.look():
            assert (look.lag, look.pending, look.waiting) == (0, 0, 0)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("seed", range(8))
async def test_every_delivery_is_settled_once_whatever_happens(
    manager: BackgroundFetchManager, settings: Settings, seed: int, filtered: bool
) -> None:
    """R10, R11, R12, R20, R21: outcomes are set once, counts agree with them."""
    async with AsyncExitStack() as stack:
        history = History(manager, settings, stack, seed, filtered)
        for _ in range(60):
            await history.step()
            for registration in history.registrations:
                await history.check(registration)
        await history.finish()
        await history.check_finished()
