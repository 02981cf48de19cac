"""Filters as people write them, and as Redis keeps them (R21)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from schemas.events import EventType
from schemas.filters import EVERYTHING, EventFilter
from workers import ServiceWorker


def test_without_a_filter_every_event_is_taken() -> None:
    assert EventFilter.of() == EVERYTHING
    assert not EVERYTHING
    assert str(EVERYTHING) == "* *"
    assert EventFilter.of(list(EventType), "***") == EVERYTHING


def test_a_filter_names_types_and_a_pattern() -> None:
    takes = EventFilter.of(["fail", "backgroundfetchclick"], "ep-**5 [?]*")

    assert takes
    assert str(takes) == "backgroundfetchclick,backgroundfetchfail ep-*5 [?]*"
    assert EventFilter.of("click") == EventFilter.of(["backgroundfetchclick"])


@given(
    st.sets(st.sampled_from(list(EventType)), min_size=1),
    st.text(min_size=1, max_size=300).filter(str.isprintable),
)
def test_what_redis_keeps_is_read_as_it_was(types: set[EventType], ids: str) -> None:
    takes = EventFilter.of(types, ids)

    assert EventFilter.parse(str(takes)) == takes


@pytest.mark.parametrize(
    ("types", "ids", "told"),
    [
        (["backgroundfetchsucess"], "*", "no event 'backgroundfetchsucess'"),
        ([], "*", "would leave no event"),
        (None, "", "'' is no pattern"),
        (None, "a\nb", "no pattern"),
        (None, "x" * 1025, "no pattern"),
        (None, "\ud800", "no pattern"),
    ],
)
def test_what_is_no_filter_is_refused(
    types: list[str] | None, ids: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        ServiceWorker("podcasts", types=types, ids=ids)


def test_a_start_is_one_of_four_things() -> None:
    with pytest.raises(ConfigError, match="start='yesterday'"):
        ServiceWorker("podcasts", start="yesterday")  # type: ignore[arg-type]


def test_a_text_that_is_no_filter_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no filter"):
        EventFilter.parse("*")
