"""What subscribers do, and what the specification says that they are answered."""

from __future__ import annotations

from datetime import timedelta

from broker.deliveries import Begun, Delivery
from schemas.errors import InvalidState
from schemas.events import DeadLetter, LetterState
from tests.model.ageing import HOUR
from tests.model.comparing import same
from tests.model.scope import Scope
from tests.model.world import Process, World


class Subscribing:
    """Processes of the subscribers of one scope, and people with dead letters."""

    def __init__(self, scope: Scope, world: World) -> None:
        self.scope = scope
        self.world = world
        self._numbers = 0

    async def join(self, subscriber: str) -> Process:
        """A process of a subscriber comes, maybe the first of all."""
        self._numbers += 1
        await self.world.start(self._numbers, subscriber)
        self.scope.join(subscriber, self._numbers)
        return self.world.processes[self._numbers]

    async def crash(self, number: int) -> None:
        """A process dies; nobody is told."""
        await self.world.stop(number)

    async def remove(self, subscriber: str) -> None:
        """Remove a subscriber, which is refused while a process of it may live."""
        lives = self.scope.lives(subscriber)
        try:
            known = await self.world.subscribers.remove(subscriber)
        except InvalidState:
            assert lives
            return
        assert not lives
        same("remove", known, subscriber in self.scope.subscribers)
        self.scope.remove(subscriber)
        for number, process in list(self.world.processes.items()):
            if process.subscription.subscriber == subscriber:
                await self.world.stop(number)

    async def begin(self, process: Process, at: int) -> None:
        """Read what there is, and begin one of all deliveries that were ever read."""
        await self.world.read(process)
        if process.known:
            entries = sorted(process.known)
            await self._begin(process, process.known[entries[at % len(entries)]])

    async def _begin(self, process: Process, delivery: Delivery) -> int | None:
        self._numbers += 1
        named = delivery.uid, delivery.message.event, delivery.subscriber
        wanted = self.scope.begin(*named, self._numbers)
        begun = await process.subscription.begin(delivery)
        if not isinstance(begun, Begun):
            same("begin", str(begun), wanted)
            return None
        same("begin", "ok", wanted)
        found = self.scope.find(*named)
        assert found is not None
        same(
            "attempt", (begun.attempt, begun.failures), (found.attempt, found.failures)
        )
        fetch = self.scope.fetches[delivery.uid]
        state = begun.state
        shown = (state.result, state.failure_reason, state.records_available)
        same("registration", shown, (fetch.result, fetch.reason, fetch.available))
        self.world.began[self._numbers] = (process, begun)
        return self._numbers

    async def ack(self, number: int) -> None:
        """Acknowledge one of all that ever began, by whoever held it."""
        process, begun = self.world.began[number]
        answer = await process.subscription.ack(begun)
        same("ack", answer, self.scope.ack(*_named(begun), number))

    async def nack(self, number: int, *, failed: bool, delay: int) -> None:
        """Give up one of all that ever began, by whoever held it."""
        process, begun = self.world.began[number]
        verdict = await process.subscription.nack(
            begun,
            failed=failed,
            delay=timedelta(milliseconds=delay * HOUR),
            reason="no luck",
        )
        due = self.scope.now + delay
        wanted = self.scope.nack(*_named(begun), number, failed=failed, due=due)
        same("nack", str(verdict), wanted)

    async def extend(self, number: int) -> None:
        """A process keeps its place, and what it believes to hold."""
        process = self.world.processes[number]
        mine = {
            at: begun for at, (by, begun) in self.world.began.items() if by is process
        }
        lost = await self.world.extend(process, list(mine.values()))
        held = [(at, _named(begun)) for at, begun in mine.items()]
        wanted = self.scope.extend(number, held)
        members = {mine[at].delivery.member for at in wanted}
        same("lost", {member.decode() for member in lost}, members)

    async def take_over(self, process: Process) -> None:
        """A process sees what dead ones of its subscriber have left."""
        await self.world.take_over(process)
        self.scope.take_over(process.subscription.subscriber)

    async def replay(self, at: int) -> None:
        """Deliver a dead letter again."""
        if letter := await self._letter(at):
            assert await self.world.letters.replay(letter)
            self.scope.replay(letter.uid, letter.event, letter.subscriber)

    async def purge(self, at: int) -> None:
        """Give a dead letter up for good."""
        if letter := await self._letter(at):
            assert await self.world.letters.purge(letter)
            self.scope.purge(letter.uid, letter.event, letter.subscriber)

    async def _letter(self, at: int) -> DeadLetter | None:
        letters = [
            letter
            for letter in await self.world.letters.find()
            if letter.state is not LetterState.EXPIRED
        ]
        return letters[at % len(letters)] if letters else None

    async def handle_all(self, subscriber: str) -> None:
        """A fresh process takes over, and acknowledges all that there is."""
        process = await self.join(subscriber)
        await self.take_over(process)
        await self.world.read(process)
        for entry in sorted(process.known, key=_place):
            number = await self._begin(process, process.known[entry])
            if number is not None:
                await self.ack(number)


def _named(begun: Begun) -> tuple[str, str, str]:
    delivery = begun.delivery
    return delivery.uid, delivery.message.event, delivery.subscriber


def _place(entry: str) -> tuple[int, ...]:
    return tuple(map(int, entry.split("-")))
