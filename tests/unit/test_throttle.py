"""The share of each transfer in the bytes a second of a process."""

from __future__ import annotations

from collections.abc import Callable

from workers.throttle import Throttle

CHUNK = 16 * 1024


class Time:
    """A clock that goes when told to, with one alarm."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due = 0.0
        self._call: Callable[[], None] | None = None

    def clock(self) -> float:
        """The time that it is."""
        return self.now

    def later(self, seconds: float, call: Callable[[], None]) -> Time:
        """Set the alarm."""
        assert self._call is None, "one alarm is enough"
        self._due, self._call = self.now + seconds, call
        return self

    def cancel(self) -> None:
        """Take it back."""
        self._call = None

    def ring(self) -> None:
        """Let the time of the alarm come."""
        assert self._call is not None, "somebody waits and nobody will wake them"
        self.now, call, self._call = max(self.now, self._due), self._call, None
        call()


class Transfer:
    """Wants to send chunks without end; ``at_once``: in ``resume`` itself."""

    def __init__(self, throttle: Throttle, *, at_once: bool = True) -> None:
        self.chunks = 0
        self.waits = False
        self._throttle = throttle
        self._at_once = at_once

    def go_on(self) -> None:
        """Send chunks until told to wait."""
        while self._throttle.admits(self):
            self._throttle.took(CHUNK)
            self.chunks += 1
        self.waits = True

    def resume(self) -> None:
        """Be told to go on."""
        self.waits = False
        if self._at_once:
            self.go_on()


def throttled(rate: int) -> tuple[Throttle, Time]:
    time = Time()
    return Throttle(rate, clock=time.clock, later=time.later), time


def test_the_rate_is_kept_on_average_whatever_it_is() -> None:
    for rate in (1024, 100_000, 50_000_000):
        throttle, time = throttled(rate)
        transfer = Transfer(throttle)

        transfer.go_on()
        while time.now < 100:
            time.ring()

        went = transfer.chunks * CHUNK
        assert abs(went - rate * time.now) <= rate * 0.05 + 2 * CHUNK


def test_all_get_the_same_also_those_that_ask_later_than_at_once() -> None:
    throttle, time = throttled(20 * CHUNK)
    transfers = [Transfer(throttle, at_once=bool(n % 2)) for n in range(7)]

    for transfer in transfers:
        transfer.go_on()
    for _ in range(400):
        time.ring()
        for transfer in transfers:
            if not transfer.waits:
                transfer.go_on()

    counts = [transfer.chunks for transfer in transfers]
    assert max(counts) - min(counts) <= 2
    assert sum(counts) * CHUNK <= 20 * CHUNK * time.now + 10 * CHUNK


def test_who_comes_late_waits_in_line_and_who_ends_leaves_it() -> None:
    throttle, time = throttled(CHUNK)
    first, second, third = (Transfer(throttle) for _ in range(3))
    first.go_on()
    second.go_on()
    third.go_on()

    throttle.forget(second)
    for _ in range(10):
        time.ring()

    assert second.chunks == 0
    assert abs(first.chunks - third.chunks) <= 1
    assert third.chunks > 1


def test_what_was_not_used_is_not_saved_up() -> None:
    throttle, time = throttled(1_000_000)
    time.now = 3600.0
    transfer = Transfer(throttle)

    transfer.go_on()

    assert transfer.chunks * CHUNK <= 50_000 + CHUNK


def test_a_throttle_that_is_closed_wakes_nobody() -> None:
    throttle, time = throttled(1024)
    Transfer(throttle).go_on()

    throttle.close()

    assert time._call is None
