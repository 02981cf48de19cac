"""The specification of one scope's events: to whom each is owed, and how it ends.

Methods do what a call does and return what it must answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.model.events import Delivery, Event
from tests.model.fetches import LEASE, Fetch


@dataclass
class Subscribers:
    """The subscribers of a scope, and the fetches whose events they handle."""

    now: int = 0
    fetches: dict[str, Fetch] = field(default_factory=dict)
    """By uid, in the order in which they began, those that are gone included."""
    subscribers: set[str] = field(default_factory=set)
    processes: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Of each process its subscriber, and until when it counts as alive."""
    published: list[tuple[str, Event]] = field(default_factory=list)
    """Every event with its fetch's uid, in the order of publication."""

    @property
    def retained(self) -> list[Fetch]:
        """The fetches that are not forgotten, oldest first."""
        return [fetch for fetch in self.fetches.values() if not fetch.gone]

    def publish(self, fetch: Fetch, name: str) -> str:
        """An event is owed to the set of this moment; an empty one leaves it open."""
        before = fetch.events[-1].name if fetch.events else ""
        event = Event(name, before, fetch.result, fetch.reason)
        event.owed = {subscriber: Delivery() for subscriber in self.subscribers}
        event.open = not event.owed
        fetch.events.append(event)
        self.published.append((fetch.uid, event))
        return name

    def join(self, subscriber: str, process: int) -> None:
        """A process of a subscriber comes; the first one adopts what is open (R12)."""
        if not self.subscribers:
            for fetch in self.retained:
                for event in fetch.events:
                    if event.open and not event.owed:
                        event.owed[subscriber] = Delivery()
        self.subscribers.add(subscriber)
        self.processes[process] = (subscriber, self.now + LEASE)

    def lives(self, subscriber: str) -> bool:
        """Whether a process of it may live."""
        mine = [at for name, at in self.processes.values() if name == subscriber]
        return any(at > self.now for at in mine)

    def remove(self, subscriber: str) -> None:
        """A subscriber goes for good: what it was owed is ``removed`` (R21)."""
        self.subscribers.discard(subscriber)
        for number, (name, _) in list(self.processes.items()):
            if name == subscriber:
                del self.processes[number]
        for fetch, event, delivery in self.deliveries(subscriber):
            if not delivery.outcome:
                self.settle(fetch, event, delivery, "removed")

    def deliveries(self, subscriber: str) -> Iterator[tuple[Fetch, Event, Delivery]]:
        """Everything that a subscriber is or was owed, as far as it is retained."""
        for fetch in self.retained:
            for event in fetch.events:
                if subscriber in event.owed:
                    yield fetch, event, event.owed[subscriber]

    def find(self, uid: str, name: str, subscriber: str) -> Delivery | None:
        """One delivery, if it is owed."""
        fetch = self.fetches[uid]
        if fetch.gone:
            return None
        [event] = [event for event in fetch.events if event.name == name]
        return event.owed.get(subscriber)

    def begin(self, uid: str, name: str, subscriber: str, holder: int) -> str:
        """Why a delivery does not begin, or ``ok`` (R10, R19)."""
        delivery = self.find(uid, name, subscriber)
        if delivery is None or delivery.status not in ("new", "held", "waiting"):
            return "done"
        if delivery.status == "held" and delivery.holder != holder:
            return "held"
        [event] = [each for each in self.fetches[uid].events if each.name == name]
        if event.predecessor:
            before = self.find(uid, event.predecessor, subscriber)
            if before is not None and before.status == "new":
                return "wait"
        if delivery.status != "held":
            delivery.begin(holder, self.now + LEASE)
        return "ok"

    def ack(self, uid: str, name: str, subscriber: str, holder: int) -> bool:
        """All promises have settled; False for a former holder."""
        delivery = self.find(uid, name, subscriber)
        if delivery is None or delivery.holder != holder:
            return False
        if delivery.status == "held":
            fetch = self.fetches[uid]
            [event] = [each for each in fetch.events if each.name == name]
            self.settle(fetch, event, delivery, "acked")
        return delivery.status == "acked"

    def nack(
        self,
        uid: str,
        name: str,
        subscriber: str,
        holder: int,
        *,
        failed: bool,
        due: int,
    ) -> str:
        """An attempt ends without acknowledgement; a former holder is refused."""
        delivery = self.find(uid, name, subscriber)
        if delivery is None or delivery.holder != holder:
            return "stale"
        if delivery.status == "held":
            delivery.give_up(failed=failed, due=due)
        return delivery.status if delivery.status in ("waiting", "dead") else "stale"

    def extend(
        self, process: int, held: Iterable[tuple[int, tuple[str, str, str]]]
    ) -> list[int]:
        """A process keeps its place and what it holds; what it does not hold."""
        self.processes[process] = (self.processes[process][0], self.now + LEASE)
        lost = []
        for holder, named in held:
            delivery = self.find(*named)
            if delivery and (delivery.status, delivery.holder) == ("held", holder):
                delivery.until = self.now + LEASE
            else:
                lost.append(holder)
        return lost

    def replay(self, uid: str, name: str, subscriber: str) -> None:
        """A dead letter comes again, its failures forgotten (R21)."""
        delivery = self.find(uid, name, subscriber)
        assert delivery is not None
        assert delivery.status == "dead"
        delivery.status, delivery.failures = "waiting", 0
        delivery.holder, delivery.until = -1, self.now

    def purge(self, uid: str, name: str, subscriber: str) -> None:
        """A dead letter is given up for ever."""
        delivery = self.find(uid, name, subscriber)
        assert delivery is not None
        assert delivery.status == "dead"
        fetch = self.fetches[uid]
        [event] = [each for each in fetch.events if each.name == name]
        self.settle(fetch, event, delivery, "purged")

    def take_over(self, subscriber: str) -> None:
        """What dead processes held has failed once, and is due at once (R20)."""
        for _, _, delivery in self.deliveries(subscriber):
            if delivery.status == "held" and delivery.until <= self.now:
                delivery.give_up(failed=True, due=self.now)

    def settle(
        self, fetch: Fetch, event: Event, delivery: Delivery, outcome: str
    ) -> None:
        """A delivery has its outcome; the last one lets the records go."""
        delivery.settle(outcome)
        ending = event is fetch.completion and event.settled
        if ending and fetch.available and fetch.hold_until <= self.now:
            fetch.released_at = self.now
