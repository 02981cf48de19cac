"""Windows of the day: what a person may write, and how long they are closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidOptions
from schemas.policies import ScopePolicy
from schemas.windows import Window

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "shown", "minutes"),
    [
        ("22:00-06:00", "22:00-06:00", "1320 360"),
        (" 6:30-12:00 ", "06:30-12:00", "390 720"),
        ("18:00-24:00", "18:00-24:00", "1080 1440"),
        ("18:00-00:00", "18:00-24:00", "1080 1440"),
    ],
)
def test_a_window_is_read_and_shown(text: str, shown: str, minutes: str) -> None:
    window = Window.parse(text)

    assert (str(window), window.minutes) == (shown, minutes)
    assert Window.parse(shown) == window


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22-6",
        "22:00",
        "25:00-06:00",
        "06:60-07:00",
        "06:00-06:00",
        "00:00-24:00",
        "24:00-06:00",
        "00:00-00:00",
        "06:00-24:01",
        "22:00-06:00 CET",
    ],
)
def test_what_is_no_window_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidOptions, match="write the hours of a day by UTC"):
        Window.parse(text)
    if text:
        with pytest.raises(InvalidOptions):
            ScopePolicy.checked(window=text)


@given(
    start=st.integers(0, 1439),
    end=st.integers(1, 1440),
    first=st.integers(0, 3 * 1440),
    length=st.integers(0, 3 * 1440),
)
def test_the_closed_time_is_that_of_its_closed_minutes(
    start: int, end: int, first: int, length: int
) -> None:
    """As counted one by one."""
    window = Window(start, end)

    def is_open(minute: int) -> bool:
        at = minute % 1440
        return start <= at < end if start < end else at >= start or at < end

    counted = sum(not is_open(minute) for minute in range(first, first + length))

    assert window.closed(first * 60_000, (first + length) * 60_000) == counted * 60_000
