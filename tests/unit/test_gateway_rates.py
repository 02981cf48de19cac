"""How often one caller may do something."""

from __future__ import annotations

from broker.gateway.rates import MOST_KEYS, Rates


class Now:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds


def test_a_burst_passes_and_then_the_rate_decides() -> None:
    now = Now()
    rates = Rates(2.0, 3, now)

    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait("b") == 0
    now.seconds += 0.25
    assert rates.wait("a") == 0.25
    now.seconds += 0.25
    assert [rates.wait("a"), rates.wait("a")] == [0, 0.5]
    now.seconds += 1000
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_looking_takes_nothing() -> None:
    rates = Rates(1.0, 1, Now())

    assert [rates.exhausted("a"), rates.exhausted("a")] == [0, 0]
    assert rates.wait("a") == 0
    assert [rates.exhausted("a"), rates.exhausted("a")] == [1, 1]


def test_only_so_many_callers_are_remembered() -> None:
    rates = Rates(1.0, 1, Now())

    for number in range(MOST_KEYS + 1):
        rates.wait(str(number))

    assert rates.exhausted("0") == 0
    assert rates.exhausted("1") == 1
