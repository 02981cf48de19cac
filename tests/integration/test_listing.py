"""``Listing``: fetches by state, a page at a time, however many there are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.agenda import Agenda, Verdict
from broker.connection import Connection
from broker.keys import FETCHES, FetchKeys
from broker.listing import EXAMINED, Listing, Page
from broker.lists import Place
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.errors import InvalidFilter
from schemas.queries import FetchFilter, ListedState
from tests.benchmarks.forged import forge
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import Process, begin, read
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

URL = "https://cdn.example/audio/ep.mp3?secret=1"
RETENTION = timedelta(days=8)


@pytest.fixture
def listing(manager: BackgroundFetchManager) -> Listing:
    """The lists of the test's Redis."""
    return Listing(manager.connection, manager.settings)


def ids(page: Page) -> list[str]:
    """The ids of what a page shows."""
    return [state.id for state in page.items]


async def test_every_fetch_is_in_the_list_of_its_state(
    manager: BackgroundFetchManager, listing: Listing, origin: Origin, engine: Engine
) -> None:
    """Paused, resumed, aborted, failed and done: the counts follow (R13, R14)."""
    origin.add("/a", b"bytes")
    await manager.fetch("active", URL)
    paused = await manager.fetch("paused", URL)
    resumed = await manager.fetch("resumed", URL)
    aborted = await manager.fetch("aborted", URL)
    done = await manager.fetch("done", origin.url("/a"))
    failed = await manager.fetch("failed", origin.url("/none"))
    await paused.pause()
    await resumed.pause()
    await resumed.resume()
    await aborted.pause()
    await aborted.abort()
    await perform(engine, done)
    await perform(engine, failed)

    found = {state: ids(await listing.page(state=state)) for state in ListedState}

    assert found == {
        "active": ["resumed", "active"],
        "paused": ["paused"],
        "success": ["done"],
        "failure": ["failed"],
        "aborted": ["aborted"],
        "awaiting": ["failed", "done", "aborted"],
    }
    assert await listing.counts() == {key: len(each) for key, each in found.items()}
    assert await listing.counts(SCOPE) == await listing.counts()
    assert ids(await listing.page(newest_first=False, limit=2)) == ["active", "paused"]


async def test_a_repeated_call_leaves_the_lists_as_they_are(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    """R23: every script may be sent twice."""
    registration = await manager.fetch("x", URL)
    await registration.pause()
    await registration.pause()
    once = await listing.counts()
    await registration.resume()
    await registration.resume()
    await registration.abort()
    await registration.abort()

    assert once[ListedState.PAUSED] == 1
    assert sum(once.values()) == 1
    assert await listing.counts() == dict.fromkeys(ListedState, 0) | {
        ListedState.ABORTED: 1,
        ListedState.AWAITING: 1,
    }


async def test_a_fetch_awaits_until_every_subscriber_has_settled(
    manager: BackgroundFetchManager, listing: Listing, process: Process
) -> None:
    """Guarantee 6: then its records are released."""
    subscription = await process()
    registration = await manager.fetch("x", URL)
    await registration.abort()
    before = await listing.counts()

    [delivery] = await read(subscription)
    await subscription.ack(await begin(subscription, delivery))

    assert before[ListedState.AWAITING] == 1
    assert (await listing.counts())[ListedState.AWAITING] == 0
    assert (await listing.counts())[ListedState.ABORTED] == 1


async def test_lists_forget_a_fetch_with_its_retention(
    manager: BackgroundFetchManager,
    settings: Settings,
    listing: Listing,
    clock: Clock,
) -> None:
    """And one whose hash Redis has lost, when it is looked at."""
    registration = await manager.fetch("x", URL)
    keys = FetchKeys(SCOPE, registration.uid)
    lost = await manager.fetch("lost", URL)
    agenda = Agenda(manager.connection, settings)
    await registration.abort()
    await clock.age_settlement(keys, RETENTION)
    await manager.connection.ask("DEL", FetchKeys(SCOPE, lost.uid).fetch)

    while (look := await agenda.look(keys)).verdict is not Verdict.GONE:
        if look.verdict is Verdict.FORGET:
            await agenda.purged(keys)
        await clock.age_settlement(keys, RETENTION)
    await agenda.look(FetchKeys(SCOPE, lost.uid))

    for scope in (None, SCOPE):
        assert await listing.counts(scope) == dict.fromkeys(ListedState, 0)
        assert ids(await listing.page(scope=scope)) == []
    left = await manager.connection.ask("KEYS", "*fetches*")
    assert left == []


async def test_scopes_have_lists_of_their_own(
    manager: BackgroundFetchManager, settings: Settings, listing: Listing
) -> None:
    await manager.fetch("mine", URL)
    async with connect(scope="films", settings=settings) as other:
        await other.fetch("theirs", URL)

    assert ids(await listing.page()) == ["theirs", "mine"]
    assert ids(await listing.page(scope=SCOPE)) == ["mine"]
    assert ids(await listing.page(filter=FetchFilter(scope="films"))) == ["theirs"]
    assert (await listing.counts("films"))[ListedState.ACTIVE] == 1
    with pytest.raises(InvalidFilter, match="'scope:films'"):
        await listing.page(scope=SCOPE, filter=FetchFilter(scope="films"))


async def test_a_filter_finds_what_was_registered(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    await manager.fetch("ep-1", URL, title="Episode One", priority="high")
    await manager.fetch("ep-2", [URL, "https://img.example:8443/2.jpg"])

    async def found(text: str) -> list[str]:
        return ids(await listing.page(filter=FetchFilter.parse(text)))

    assert await found("id:ep-*") == ["ep-2", "ep-1"]
    assert await found("host:img.example") == ["ep-2"]
    assert await found("host:*.example:8443") == ["ep-2"]
    assert await found("host:cdn.example priority:high") == ["ep-1"]
    assert await found("episode") == ["ep-1"]
    assert await found("audio/ep.mp3") == ["ep-2", "ep-1"]
    assert await found("secret") == []


async def test_pages_neither_repeat_nor_miss_while_others_come_and_go(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    for number in range(10):
        await manager.fetch(f"f-{number}", URL)

    first = await listing.page(state=ListedState.ACTIVE, limit=4)
    await manager.fetch("new", URL)
    await (await manager.fetch("gone", URL)).abort()
    [last_shown] = [each for each in [await manager.get("f-6")] if each]
    await last_shown.abort()
    second = await listing.page(state=ListedState.ACTIVE, cursor=first.cursor, limit=4)
    third = await listing.page(state=ListedState.ACTIVE, cursor=second.cursor, limit=4)

    shown = [*ids(first), *ids(second), *ids(third)]
    assert shown == [f"f-{number}" for number in reversed(range(10))]
    assert not first.exhausted
    assert third.exhausted


@pytest.mark.parametrize("newest_first", [True, False])
async def test_fetches_of_one_microsecond_are_all_shown(
    manager: BackgroundFetchManager, listing: Listing, newest_first: bool
) -> None:
    """More of them than a batch reads."""
    await forge(manager.connection, SCOPE, 30)
    for member in await manager.connection.ask("ZRANGE", FETCHES, 0, -1):
        await manager.connection.ask("ZADD", FETCHES, 10**15, member)

    seen, cursor = [], None
    while True:
        page = await listing.page(cursor=cursor, limit=4, newest_first=newest_first)
        seen += ids(page)
        cursor = page.cursor
        if cursor is None:
            break

    assert sorted(seen) == sorted(f"forged-{number}" for number in range(30))


async def test_a_search_looks_at_a_bounded_number_and_says_where_to_go_on(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    await forge(manager.connection, SCOPE, 1000)
    wanted = FetchFilter.parse("id:forged-3")

    page = await listing.page(filter=wanted, examine=400)
    rest = await listing.page(filter=wanted, cursor=page.cursor)

    assert (page.items, page.examined, page.exhausted) == ((), 400, False)
    assert (ids(rest), rest.examined, rest.exhausted) == (["forged-3"], 600, True)


async def test_a_page_of_hits_ends_at_its_last_one(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    await forge(manager.connection, SCOPE, 20)

    page = await listing.page(filter=FetchFilter.parse("id:forged-1*"), limit=3)
    rest = await listing.page(
        filter=FetchFilter.parse("id:forged-1*"), cursor=page.cursor
    )

    assert ids(page) == ["forged-19", "forged-18", "forged-17"]
    assert ids(rest) == [
        f"forged-{number}" for number in (16, 15, 14, 13, 12, 11, 10, 1)
    ]


async def test_a_damaged_registration_hides_no_others(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    await forge(manager.connection, SCOPE, 3)
    damaged = FetchKeys(SCOPE, f"{1:032x}").fetch
    await manager.connection.ask("HSET", damaged, "result", "nonsense")

    assert ids(await listing.page()) == ["forged-2", "forged-0"]


async def test_a_cursor_is_for_the_lists_of_the_same_scopes(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    await forge(manager.connection, SCOPE, 3)
    for given, other in ((None, SCOPE), (SCOPE, None)):
        page = await listing.page(scope=given, limit=1)

        with pytest.raises(InvalidFilter, match="lists of other scopes"):
            await listing.page(scope=other, cursor=page.cursor)


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1/a", "1/a/b", f"x/a/{'0' * 32}", f"1/-/{'0' * 32}"]
)
async def test_a_cursor_that_is_none_is_refused(listing: Listing, cursor: str) -> None:
    with pytest.raises(InvalidFilter, match="no place in a list"):
        await listing.page(cursor=cursor)


def test_a_place_as_text_reads_as_the_same_place() -> None:
    place = Place(1795386000000000, f"a/{'0' * 32}")

    assert Place.parse(str(place)) == place


class Traffic:
    """What a connection's commands cost: how many there are, and bytes of replies."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.commands = self.output = 0

    async def __aenter__(self) -> Traffic:
        self._before = await self._figures()
        return self

    async def __aexit__(self, *_: object) -> None:
        commands, output = await self._figures()
        self.commands = commands - self._before[0]
        self.output = output - self._before[1]

    async def _figures(self) -> tuple[int, int]:
        stats = await self._connection.ask("INFO", "stats")
        return stats["total_commands_processed"], stats["total_net_output_bytes"]


async def test_a_page_costs_the_same_however_many_there_are(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    """100,000 fetches against 1,000: commands and bytes of replies, not time."""
    costs = []
    for count in (1_000, 100_000):
        await manager.connection.ask("FLUSHALL")
        await forge(manager.connection, SCOPE, count)
        async with Traffic(manager.connection) as traffic:
            page = await listing.page(state=ListedState.FAILURE)
            await listing.page(state=ListedState.FAILURE, cursor=page.cursor)
            await listing.counts()
            await listing.page(scope=SCOPE, filter=FetchFilter.parse("id:forged-*9"))
        costs.append(traffic)

    few, many = costs
    assert many.commands <= 1.5 * few.commands
    assert many.output <= 1.5 * few.output


async def test_a_search_for_nothing_costs_a_bounded_number_of_commands(
    manager: BackgroundFetchManager, listing: Listing
) -> None:
    """The newest ten thousand of 100,000, and few bytes of each."""
    await forge(manager.connection, SCOPE, 100_000)

    async with Traffic(manager.connection) as traffic:
        page = await listing.page(filter=FetchFilter.parse("id:none"))

    assert (page.examined, page.exhausted) == (EXAMINED, False)
    assert traffic.commands <= EXAMINED * 1.02
    assert traffic.output <= EXAMINED * 200
