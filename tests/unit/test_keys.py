"""Keys: what a scope has is removed with it."""

from __future__ import annotations

import inspect

from broker.keys import ScopeKeys
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


def test_a_removal_knows_every_key_of_a_scope() -> None:
    """BF-LIFE-02: a key that is new has to be named in ``rest``."""
    plain = {
        getattr(KEYS, name)
        for name, each in inspect.getmembers(ScopeKeys)
        if isinstance(each, property) and name != "_prefix"
    }
    of_priorities = {
        place(each) for place in (KEYS.places, KEYS.waiting) for each in Priority
    }
    lists = {KEYS.listed(state) for state in ListedState}  # empty themselves, too

    assert plain | of_priorities == set(KEYS.rest()) | ELSEWHERE
    assert not lists & set(KEYS.rest())
