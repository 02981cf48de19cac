"""``Bulk``: one action on all fetches that a filter matches, survivable (R23)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from broker import bulk
from broker.bulk import Bulk
from broker.listing import Listing
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.bulk import Action, BulkOutcome
from schemas.errors import InvalidFilter, Unreachable
from schemas.queries import FetchFilter, ListedState
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process

URL = "https://cdn.example/1"
Counts = dict[ListedState, int]


@pytest.fixture
def acts(manager: BackgroundFetchManager) -> Bulk:
    """What acts on many fetches of the test's Redis."""
    return Bulk(manager.connection, manager.settings)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few fetches are many."""
    monkeypatch.setattr(bulk, "BATCH", 3)


async def register(manager: BackgroundFetchManager, ids: Iterable[str]) -> None:
    """Start fetches that nobody works on."""
    for id in ids:
        await manager.fetch(id, URL)


async def counts(manager: BackgroundFetchManager) -> Counts:
    """How many there are in each state, empty ones left out."""
    found = await Listing(manager.connection, manager.settings).counts()
    return {state: count for state, count in found.items() if count}


@pytest.mark.usefixtures("small_batches")
async def test_an_action_reaches_all_that_match_and_no_others(
    manager: BackgroundFetchManager, settings: Settings, acts: Bulk
) -> None:
    """Of every scope, however many batches that takes."""
    await register(manager, [f"ep-{number}" for number in range(7)])
    await register(manager, ["other"])
    async with connect(scope="films", settings=settings) as films:
        await register(films, ["ep-film"])
    heard: list[BulkOutcome] = []

    outcome = await acts.run(
        Action.ABORT, FetchFilter.parse("id:ep-*"), progress=heard.append
    )

    assert (outcome.matched, outcome.done, outcome.skipped, outcome.failed) == (
        8,
        8,
        0,
        0,
    )
    assert outcome.finished
    assert heard[-1] == outcome
    assert [each.done for each in heard] == sorted(each.done for each in heard)
    assert await manager.get_ids() == ["other"]
    assert (await counts(manager))[ListedState.ABORTED] == 8


async def test_every_action_does_what_it_does_to_one_fetch(
    manager: BackgroundFetchManager, acts: Bulk, process: Process
) -> None:
    await register(manager, ["a", "b"])
    mine = FetchFilter(scope=SCOPE)

    paused = await acts.run(Action.PAUSE, mine)
    after_pause = await counts(manager)
    resumed = await acts.run(Action.RESUME, mine)
    clicked = await acts.run(Action.CLICK, mine)
    aborted = await acts.run(Action.ABORT, mine)
    retried = await acts.run(Action.RETRY, mine)
    after_retry = await counts(manager)
    released = await acts.run(Action.RELEASE, mine)
    forgotten = await acts.run(Action.FORGET, mine)

    outcomes = [paused, resumed, clicked, aborted, retried, released, forgotten]
    assert [each.done for each in outcomes] == [2] * 7
    assert after_pause == {ListedState.PAUSED: 2}
    assert after_retry == {
        ListedState.ACTIVE: 2,
        ListedState.ABORTED: 2,
        ListedState.AWAITING: 2,
    }
    assert await counts(manager) == {ListedState.ACTIVE: 2}


async def test_what_cannot_be_done_is_counted_and_told(
    manager: BackgroundFetchManager, acts: Bulk, process: Process
) -> None:
    """Two with one id: only the newer is tried again; open deliveries keep both."""
    await process()
    for _ in range(2):
        await (await manager.fetch("x", URL)).abort()

    retried = await acts.run(Action.RETRY)
    kept = await acts.run(Action.FORGET)
    forced = await acts.run(Action.FORGET, force=True)

    assert (retried.matched, retried.done, retried.skipped) == (2, 1, 1)
    assert [told.error for told in retried.told] == [
        "scope 'podcasts' already has an active fetch 'x'"
    ]
    assert (kept.done, kept.skipped, len(kept.told)) == (0, 2, 2)
    assert forced.done == 2


async def test_a_repeated_call_has_the_same_answer(
    manager: BackgroundFetchManager, acts: Bulk
) -> None:
    """R23: and what it brought about is not acted on again."""
    await register(manager, ["a", "b"])
    await acts.run(Action.ABORT)

    first = await acts.run(Action.RETRY, token="mine")
    await acts.run(Action.ABORT)
    again = await acts.run(Action.RETRY, token="mine")

    assert again == first
    assert await manager.get_ids() == []
    with pytest.raises(InvalidFilter, match="another action"):
        await acts.run(Action.ABORT, token="mine")


class Mortal:
    """Lets a call write down so much, and then die: what it does next is in vain."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.deaths = 0
        write = Bulk._write

        async def die(acts: Bulk, *arguments: Any) -> Any:
            if not self.left:
                raise Unreachable("gone")
            self.left -= 1
            return await write(acts, *arguments)

        monkeypatch.setattr(Bulk, "_write", die)

    async def run(self, acts: Bulk, action: Action) -> BulkOutcome | None:
        """Call with two writes to live: where it begins, and one step."""
        self.left = 2
        try:
            return await acts.run(action, token="t")
        except Unreachable:
            self.deaths += 1
            return None


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("action", [Action.ABORT, Action.PAUSE, Action.CLICK])
async def test_a_call_that_died_goes_on_and_counts_everything_once(
    manager: BackgroundFetchManager,
    acts: Bulk,
    monkeypatch: pytest.MonkeyPatch,
    action: Action,
) -> None:
    """Every batch is acted on, and then once more by the next call."""
    await register(manager, [f"f-{number}" for number in range(8)])
    mortal = Mortal(monkeypatch)

    while (outcome := await mortal.run(acts, action)) is None:
        assert mortal.deaths < 20

    assert mortal.deaths >= 3
    assert (outcome.matched, outcome.done, outcome.skipped) == (8, 8, 0)
    events = await manager.connection.ask("XLEN", f"bgfetch:{SCOPE}:events")
    assert events == (0 if action is Action.PAUSE else 8)


@pytest.mark.usefixtures("small_batches")
async def test_fetches_that_are_registered_meanwhile_are_left_alone(
    manager: BackgroundFetchManager, acts: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is retried, and fails again, would be retried for ever."""
    await register(manager, [f"f-{number}" for number in range(8)])
    await acts.run(Action.ABORT, token="first")
    mortal = Mortal(monkeypatch)

    while (outcome := await mortal.run(acts, Action.RETRY)) is None:
        for id in await manager.get_ids():
            again = await manager.get(id)
            assert again is not None
            await again.abort()

    assert mortal.deaths >= 3
    assert outcome.matched == outcome.done == 8
    assert (await counts(manager))[ListedState.ABORTED] >= 14


async def test_a_state_in_which_an_action_makes_no_sense_is_refused(acts: Bulk) -> None:
    with pytest.raises(InvalidFilter, match="'state:success': abort is for fetches"):
        await acts.run(Action.ABORT, FetchFilter.parse("state:success"))
