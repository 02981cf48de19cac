"""What one scope can learn about another by guessing names: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.errors import InvalidName
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"
GLOBS = ("*", "?", "[a-z]*", "secret*", "x:*", "%", ".*")


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[BackgroundFetchManager]:
    """The background fetches of another tenant, on the same Redis."""
    async with connect(scope="other", settings=settings) as opened:
        yield opened


@pytest.mark.parametrize("id", ["secret", *GLOBS])
async def test_an_id_or_uid_of_another_scope_finds_nothing(
    id: str, manager: BackgroundFetchManager, other: BackgroundFetchManager
) -> None:
    """Faults row 84."""
    theirs = await other.fetch("secret", URL)

    assert await manager.get(id) is None
    assert await manager.find(id) is None
    assert await manager.lookup(theirs.uid) is None
    assert await manager.get_ids() == []
    assert await manager.history() == []


@pytest.mark.parametrize("id", [*GLOBS, f"x:{'0' * 32}", "a\0b", "é:fetch:1:events"])
async def test_an_id_is_what_it_is_whatever_it_looks_like(
    id: str, manager: BackgroundFetchManager
) -> None:
    """Faults row 84: no pattern, no key, no separator."""
    await manager.fetch("plain", URL)

    made = await manager.fetch(id, URL)

    assert await manager.get_ids() == ["plain", id]
    assert await manager.get(id) is made
    assert await made.abort()
    assert await manager.get_ids() == ["plain"]


async def test_a_uid_that_names_another_key_finds_nothing(
    manager: BackgroundFetchManager, other: BackgroundFetchManager
) -> None:
    """Faults row 84: keys below a fetch hold other things, of any type."""
    made, theirs = await manager.fetch("x", URL), await other.fetch("x", URL)
    await made.click()

    names = [key.rpartition(":fetch:")[2] for key in FetchKeys("", made.uid).all()[1:]]
    for uid in (*names, "", "*", f"{made.uid}\n", made.uid.upper(), "x" * 10_000):
        assert await manager.lookup(uid) is None
    for uid in (f"../other:fetch:{theirs.uid}", f":other:fetch:{theirs.uid}"):
        assert await manager.lookup(uid) is None


@pytest.mark.parametrize(
    "name", ["other:fetch", "a:b", "a/b", "*", "a b", "a\n", "", "x" * 65, "é", ".."]
)
async def test_no_scope_and_no_subscriber_reaches_into_anothers_keys(
    name: str, settings: Settings
) -> None:
    """Faults row 84: nor has the name of a key that is everybody's."""
    for scope in (name, "agenda"):
        with pytest.raises(InvalidName):
            async with connect(scope=scope, settings=settings):
                pass
    with pytest.raises(InvalidName):
        ServiceWorker("scope", name=name)
