"""Listeners at their target: order, slots and removal as in the DOM (DOM § 2.7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas.listeners import ListenerList, Slot
from workers import ServiceWorker

Listeners = ListenerList[Callable[[], object]]


@pytest.fixture
def listeners() -> Listeners:
    return ListenerList()


@pytest.fixture
def heard() -> list[str]:
    return []


def says(heard: list[str], what: str) -> Callable[[], object]:
    return lambda: heard.append(what)


def call(listeners: Listeners) -> None:
    for listener in listeners.calls():
        listener()


def test_the_slot_has_the_place_of_its_first_setting(
    listeners: Listeners, heard: list[str]
) -> None:
    """BF-IDL-07, BF-EVT-11: in registration order, the slot among the others."""
    listeners.add(says(heard, "a"))
    listeners.slot = says(heard, "slot")
    listeners.add(says(heard, "b"))
    listeners.slot = says(heard, "slot again")

    call(listeners)

    assert heard == ["a", "slot again", "b"]


def test_a_slot_that_was_emptied_loses_its_place(
    listeners: Listeners, heard: list[str]
) -> None:
    listeners.slot = says(heard, "slot")
    listeners.add(says(heard, "a"))
    listeners.slot = None
    assert listeners.slot is None
    call(listeners)
    listeners.slot = says(heard, "slot")

    call(listeners)

    assert heard == ["a", "a", "slot"]


def test_a_listener_that_is_added_twice_is_called_once_where_it_was(
    listeners: Listeners, heard: list[str]
) -> None:
    first = says(heard, "first")
    listeners.add(first)
    listeners.add(says(heard, "second"))
    listeners.add(first, once=True)

    call(listeners)
    call(listeners)

    assert heard == ["first", "second"] * 2


def test_the_slot_and_a_listener_may_be_the_same_function(
    listeners: Listeners, heard: list[str]
) -> None:
    both = says(heard, "both")
    listeners.slot = both
    listeners.add(both)

    call(listeners)
    listeners.remove(both)
    call(listeners)

    assert heard == ["both"] * 3
    assert listeners.slot is both


def test_a_listener_for_once_is_gone_before_it_is_called(
    listeners: Listeners, heard: list[str]
) -> None:
    def again() -> None:
        heard.append("once")
        if len(heard) < 2:
            call(listeners)
            listeners.add(again, once=True)

    listeners.add(again, once=True)

    call(listeners)
    call(listeners)
    call(listeners)

    assert heard == ["once", "once"]
    assert not listeners


def test_what_is_removed_meanwhile_is_not_called_nor_what_is_added(
    listeners: Listeners, heard: list[str]
) -> None:
    late, removed = says(heard, "late"), says(heard, "removed")

    def change() -> None:
        listeners.remove(removed)
        listeners.remove(removed)
        listeners.add(late)
        listeners.slot = says(heard, "changed")

    listeners.add(change)
    listeners.add(removed)
    listeners.slot = says(heard, "slot")

    call(listeners)

    assert heard == ["changed"]


def test_slots_of_one_target_are_not_those_of_another(heard: list[str]) -> None:
    """BF-IDL-16: four slots, each with listeners of its own."""
    one, other = ServiceWorker("podcasts"), ServiceWorker("podcasts")
    slots = {
        name: each for name, each in vars(ServiceWorker).items() if name[:2] == "on"
    }
    types = {name[2:] for name, each in slots.items() if isinstance(each, Slot)}
    for type in types:
        setattr(one, f"on{type}", heard.append)

    found = [getattr(each, f"on{type}") for type in types for each in (one, other)]

    assert types == {
        f"backgroundfetch{end}" for end in ["success", "fail", "abort", "click"]
    }
    assert found == [heard.append, None] * 4
