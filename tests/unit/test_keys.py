"""Keys: what a scope has is removed with it."""

from __future__ import annotations

import inspect

import pytest

from broker.keys import FetchKeys, ScopeKeys, SubscriberKeys
from schemas.fetches import Priority
from schemas.queries import ListedState

KEYS = ScopeKeys("x")
ELSEWHERE = {
    KEYS.scope_hash,  # the last to go
    KEYS.fetches,  # these two empty themselves before
    KEYS.subscribers,
    KEYS.progress,  # channels
    KEYS.clients,
}


def named(keys: ScopeKeys | FetchKeys | SubscriberKeys) -> set[str]:
    """What the properties of ``keys`` name."""
    return {
        getattr(keys, name)
        for name, each in inspect.getmembers(type(keys))
        if isinstance(each, property) and name not in ("_prefix", "member")
    }


@pytest.mark.parametrize("keys", [KEYS.fetch("u"), KEYS.subscriber("s")], ids=type)
def test_all_keys_of_a_fetch_or_a_subscriber_are_known(
    keys: FetchKeys | SubscriberKeys,
) -> None:
    """BF-LIFE-02: those that ``all`` does not name would outlive it."""
    assert set(keys.all()) == named(keys)


def test_a_removal_knows_every_key_of_a_scope() -> None:
    """BF-LIFE-02: a key that is new has to be named in ``rest``."""
    plain = named(KEYS)
    of_priorities = {
        place(each) for place in (KEYS.places, KEYS.waiting) for each in Priority
    }
    lists = {KEYS.listed(state) for state in ListedState}  # empty themselves, too

    assert plain | of_priorities == set(KEYS.rest()) | ELSEWHERE
    assert not lists & set(KEYS.rest())
