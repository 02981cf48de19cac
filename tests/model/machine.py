"""Random interleavings of everything that can happen to a scope, step beside step.

Hypothesis chooses; each step is done on the real thing and by the specification, and
all that can be seen is compared after it. What fails is told as the shortest program.
"""
# ruff: noqa: D102 - the name of a rule is its sentence

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from typing_extensions import override

from tests.model.comparing import compare
from tests.model.ending import Ending
from tests.model.fetches import LEASE, RETENTION, Fetch
from tests.model.producing import Producing
from tests.model.scope import Scope, Told
from tests.model.subscribing import Subscribing
from tests.model.working import Working
from tests.model.world import World

T = TypeVar("T")

HOLD = 10
IDS, NAMES = st.sampled_from("abc"), st.sampled_from("pq")
NUMBER = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 4, 7])
"""Most often what is pending and new: there something can go wrong."""
TWICE = st.sampled_from([1, 2])
RESULTS = st.sampled_from(
    [
        *("", "", "success", "success", "success", "bad-status", "fetch-error"),
        *("quota-exceeded", "download-total-exceeded"),
    ]
)
TOLD = st.builds(
    Told,
    index=NUMBER,
    stored=st.integers(0, 50),
    uploaded=st.integers(0, 5),
    result=RESULTS,
    delay=st.sampled_from([None, None, 0, LEASE + 1]),
)
BODIES = st.lists(st.sampled_from([None, None, None, b"five!"]), min_size=1, max_size=5)


def pick(choices: Sequence[T] | Mapping[T, object], number: int) -> T:
    """The newest is 0, so that examples get simpler."""
    every = list(choices)
    return every[-1 - number % len(every)]


class ApiMachine(RuleBasedStateMachine):
    """The whole API on a real Redis, beside the model of it."""

    url = ""
    """Of a Redis that may be emptied; set before it is run."""
    rounds = steps = 0
    """How much of it was done so far."""

    def __init__(self) -> None:
        super().__init__()
        type(self).rounds += 1
        self.scope, self.broken = Scope(), False
        self._runner = asyncio.Runner()
        self.world = self._runner.run(self._opened())
        self.producing = Producing(self.scope, self.world)
        self.working = Working(self.scope, self.world)
        self.subscribing = Subscribing(self.scope, self.world)
        self.ending = Ending(self.producing, self.working, self.subscribing)

    async def _opened(self) -> World:
        world = World(self.url)
        await world.open()
        return world

    def do(self, work: Coroutine[Any, Any, T], times: int = 1) -> T:
        """Do a step, every call of which is sent so many times."""
        self.world.connection.times = times
        self.broken = True
        done = self._runner.run(work)
        self.world.connection.times = 1
        self.broken = False
        return done

    @invariant()
    def agrees(self) -> None:
        """What can be seen is what the specification says."""
        type(self).steps += 1
        self.do(compare(self.scope, self.world))

    def _fetch(self, number: int) -> Fetch:
        every = self.scope.fetches.values()
        return pick(sorted(every, key=lambda fetch: not fetch.result), number)

    @initialize(bodies=BODIES, names=st.sampled_from(["", "p", "pq"]))
    def there_is_a_fetch_and_somebody_who_works_on_it(
        self, bodies: list[bytes | None], names: str
    ) -> None:
        for name in names:
            self.do(self.subscribing.join(name))
        self.do(self.producing.fetch("a", bodies, 0, 0))
        self.do(self.working.take(2))

    # producers

    @rule(id=IDS, bodies=BODIES, total=st.sampled_from([0, 0, 99]), times=TWICE)
    def fetch(
        self, id: str, bodies: list[bytes | None], total: int, times: int
    ) -> None:
        self.do(self.producing.fetch(id, bodies, total, 0), times)

    @rule(id=IDS, bodies=BODIES)
    def fetch_and_hold(self, id: str, bodies: list[bytes | None]) -> None:
        self.do(self.producing.fetch(id, bodies, 0, HOLD))

    @precondition(lambda self: self.scope.fetches)
    @rule(number=NUMBER, times=TWICE)
    def abort(self, number: int, times: int) -> None:
        self.do(self.producing.abort(self._fetch(number)), times)

    @precondition(lambda self: self.scope.fetches)
    @rule(number=NUMBER, times=TWICE)
    def click(self, number: int, times: int) -> None:
        self.do(self.producing.click(self._fetch(number)), times)

    @precondition(lambda self: self.scope.active)
    @rule(number=NUMBER, times=TWICE)
    def pause(self, number: int, times: int) -> None:
        self.do(self.producing.pause(self._fetch(number)), times)

    @precondition(lambda self: any(fetch.paused for fetch in self.scope.retained))
    @rule(number=NUMBER, times=TWICE)
    def resume(self, number: int, times: int) -> None:
        self.do(self.producing.resume(self._fetch(number)), times)

    @precondition(lambda self: any(fetch.hold for fetch in self.scope.retained))
    @rule(number=NUMBER, times=TWICE)
    def release(self, number: int, times: int) -> None:
        self.do(self.producing.release(self._fetch(number)), times)

    @precondition(lambda self: self.scope.fetches)
    @rule(number=NUMBER, index=NUMBER)
    def ask(self, number: int, index: int) -> None:
        fetch = self._fetch(number)
        self.do(self.producing.get(fetch.id))
        self.do(self.producing.settled(fetch))
        self.do(self.producing.match(fetch, index))

    @rule(number=st.integers(0, 99))
    def repeat_a_call_of_long_ago(self, number: int) -> None:
        self.do(self.producing.repeat(number))

    # workers

    @rule(want=st.integers(1, 3), times=TWICE)
    def take(self, want: int, times: int) -> None:
        self.do(self.working.take(want), times)

    @rule()
    def lose_a_job(self) -> None:
        self.do(self.working.take(1, lost=True))

    @precondition(lambda self: self.world.lanes)
    @rule(
        number=NUMBER,
        told=st.lists(TOLD, max_size=3),
        want=st.integers(0, 2),
        times=TWICE,
    )
    def report(self, number: int, told: list[Told], want: int, times: int) -> None:
        lane = pick(self.world.lanes, number)
        known = self.world.lanes[lane].known
        records = self.scope.fetches[self.world.lanes[lane].uid].records
        others = set(range(len(records))) - known
        order = [*sorted(known), *sorted(others)]  # most often those that it holds
        about = {each.index % len(order): each for each in told}
        told = [replace(each, index=order[at]) for at, each in about.items()]
        self.do(self.working.report(lane, told, want), times)

    @precondition(lambda self: self.world.lanes)
    @rule(number=NUMBER, result=RESULTS, want=st.integers(0, 2))
    def report_on_all(self, number: int, result: str, want: int) -> None:
        lane = pick(self.world.lanes, number)
        told = [
            Told(index, 9 + index, 0, result, None)
            for index in sorted(self.world.lanes[lane].known)
        ]
        self.do(self.working.report(lane, told, want))

    @precondition(lambda self: self.world.lanes)
    @rule(number=NUMBER, times=TWICE)
    def leave(self, number: int, times: int) -> None:
        self.do(self.working.leave(pick(self.world.lanes, number)), times)

    @precondition(lambda self: self.world.lanes)
    @rule(number=NUMBER)
    def crash_of_a_lane(self, number: int) -> None:
        self.working.crash(pick(self.world.lanes, number))

    @rule(hours=st.sampled_from([LEASE + 1, LEASE + 1, HOLD + 1, RETENTION + 1]))
    def pass_time(self, hours: int) -> None:
        self.do(self.working.pass_time(hours))

    @rule()
    def reclaim(self) -> None:
        self.do(self.working.reclaim())

    # subscribers

    @rule(name=NAMES, times=TWICE)
    def join(self, name: str, times: int) -> None:
        self.do(self.subscribing.join(name), times)

    @precondition(lambda self: self.world.processes)
    @rule(number=NUMBER)
    def crash_of_a_process(self, number: int) -> None:
        self.do(self.subscribing.crash(pick(self.world.processes, number)))

    @precondition(lambda self: self.scope.subscribers)
    @rule(name=NAMES, times=TWICE)
    def remove(self, name: str, times: int) -> None:
        self.do(self.subscribing.remove(name), times)

    @precondition(lambda self: self.world.processes)
    @rule(number=NUMBER, at=NUMBER, times=TWICE)
    def begin(self, number: int, at: int, times: int) -> None:
        process = self.world.processes[pick(self.world.processes, number)]
        self.do(self.subscribing.begin(process, at), times)

    @precondition(lambda self: self.world.began)
    @rule(number=NUMBER, times=TWICE)
    def ack(self, number: int, times: int) -> None:
        self.do(self.subscribing.ack(pick(self.world.began, number)), times)

    @precondition(lambda self: self.world.began)
    @rule(
        number=NUMBER,
        failed=st.booleans(),
        delay=st.sampled_from([0, LEASE]),
        times=TWICE,
    )
    def nack(self, number: int, failed: bool, delay: int, times: int) -> None:
        holder = pick(self.world.began, number)
        self.do(self.subscribing.nack(holder, failed=failed, delay=delay), times)

    @precondition(lambda self: self.world.processes)
    @rule(number=NUMBER)
    def extend(self, number: int) -> None:
        self.do(self.subscribing.extend(pick(self.world.processes, number)))

    @precondition(lambda self: self.world.processes)
    @rule(number=NUMBER)
    def take_over(self, number: int) -> None:
        process = self.world.processes[pick(self.world.processes, number)]
        self.do(self.subscribing.take_over(process))

    @rule(at=NUMBER, times=TWICE)
    def replay(self, at: int, times: int) -> None:
        self.do(self.subscribing.replay(at), times)

    @rule(at=NUMBER, times=TWICE)
    def purge(self, at: int, times: int) -> None:
        self.do(self.subscribing.purge(at), times)

    # what must come to an end

    @precondition(lambda self: self.scope.active or self.world.began)
    @rule()
    def finish(self) -> None:
        """All goes well from now on: every fetch ends, and all that is owed is done."""
        self.do(self.ending.finish())

    @override
    def teardown(self) -> None:
        """Past the retention nothing is left in Redis."""
        try:
            if not self.broken:
                self.do(self.ending.forget())
        finally:
            self._runner.run(self.world.aclose())
            self._runner.close()
