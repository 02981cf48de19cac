"""Server-sent events of the gateway: what readers hear, and from where they resume."""

from __future__ import annotations

import asyncio
from typing import Any

from httpx2 import AsyncClient

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.streaming import reading

URL = "https://origin.example/file"
OF_SCOPE = f"/scopes/{SCOPE}/events"


async def test_a_reader_hears_what_happens_to_the_fetches_of_its_scope(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    async with reading(gateway, OF_SCOPE) as stream:
        hello = await stream.next("client")
        registration = await manager.fetch("ep-5", URL, title="Episode 5")
        registered = await stream.next("registered")
        await registration.pause()
        paused = await stream.next("paused")
        await registration.resume()
        await stream.next("resumed")
        await registration.abort()
        ended = await stream.next("backgroundfetchabort")

    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.response.headers["cache-control"] == "no-cache"
    assert hello.data["client"]
    assert hello.retry
    assert registered.data["title"] == "Episode 5"
    assert (paused.data["uid"], paused.data["paused"]) == (registration.uid, True)
    assert ended.data["event"] == "backgroundfetchabort"
    assert ended.data["registration"]["failureReason"] == "aborted"
    assert ended.id


async def test_a_reader_begins_with_the_present_state_of_active_fetches(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """R25: what happened before it came is told by what is."""
    ended = await manager.fetch("ended", URL)
    await ended.abort()
    active = await manager.fetch("active", URL)

    async with reading(gateway, OF_SCOPE) as stream:
        first = await stream.next("progress")
    async with reading(gateway, f"/scopes/{SCOPE}/fetches/{ended.uid}/events") as alone:
        result = await alone.next("progress")
    async with reading(gateway, "/events") as everything:
        shown = await everything.next("progress")

    assert first.data["uid"] == shown.data["uid"] == active.uid
    assert result.data["failureReason"] == "aborted"


async def test_a_reader_resumes_after_the_last_event_that_it_heard(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    types = "success,fail,abort,click"
    registration = await manager.fetch("ep-5", URL)
    async with reading(gateway, OF_SCOPE, types=types) as stream:
        await stream.next("client")
        await registration.click()
        heard = await stream.next("backgroundfetchclick")
    await registration.click()
    await registration.abort()

    async with reading(gateway, OF_SCOPE, heard.id, types=types) as stream:
        missed = [await stream.next("backgroundfetchclick", "backgroundfetchabort")]
        missed += [await stream.next("backgroundfetchclick", "backgroundfetchabort")]
        await registration.click()
        live = await stream.next("backgroundfetchclick")

    named = [message.data["event"] for message in missed]
    assert named == ["backgroundfetchclick.2", "backgroundfetchabort"]
    assert live.data["event"] == "backgroundfetchclick.3"


async def test_a_reader_of_all_scopes_resumes_and_misses_nothing(
    gateway: AsyncClient, manager: BackgroundFetchManager, settings: Settings
) -> None:
    clicks = "/events"
    registration = await manager.fetch("here", URL)
    async with connect(scope="other", settings=settings) as other:
        elsewhere = await other.fetch("there", URL)
        async with reading(gateway, clicks, types="click") as stream:
            await stream.next("client")
            await registration.click()
            await elsewhere.click()
            heard = [await stream.next("backgroundfetchclick") for _ in range(2)]
        await elsewhere.click()
        async with connect(scope="newcomer", settings=settings) as third:
            newcomer = await third.fetch("new", URL)
            await newcomer.click()
        await registration.click()

        missed: set[tuple[str, str]] = set()
        async with reading(gateway, clicks, heard[-1].id, types="click") as stream:
            while len(missed) < 3:
                told = (await stream.next("backgroundfetchclick")).data
                about = told["registration"]["scope"], told["event"]
                if about not in {_named(message.data) for message in heard}:
                    missed.add(about)

    assert {_named(message.data) for message in heard} == {
        (SCOPE, "backgroundfetchclick.1"),
        ("other", "backgroundfetchclick.1"),
    }
    assert missed == {
        (SCOPE, "backgroundfetchclick.2"),
        ("other", "backgroundfetchclick.2"),
        ("newcomer", "backgroundfetchclick.1"),
    }


def _named(told: dict[str, Any]) -> tuple[str, str]:
    return told["registration"]["scope"], told["event"]


async def test_a_reader_of_one_fetch_hears_of_no_other(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    mine, other = await manager.fetch("mine", URL), await manager.fetch("other", URL)

    path = f"/scopes/{SCOPE}/fetches/{mine.uid}/events"
    async with reading(gateway, path) as stream:
        await stream.next("client")
        await other.abort()
        await mine.abort()
        told = await stream.next("backgroundfetchabort")

    assert told.data["registration"]["uid"] == mine.uid


async def test_after_a_lost_connection_to_redis_the_present_state_is_told(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """R25: an outcome whose message was lost is heard all the same."""
    registration = await manager.fetch("ep-5", URL)
    keys = FetchKeys(SCOPE, registration.uid)
    async with reading(gateway, OF_SCOPE) as stream:
        await stream.next("progress")
        await manager.connection.ask(
            *("HSET", keys.fetch, "downloaded", 123, "version", 7)
        )
        # Without a message: nobody has told of the bytes, and the click's is lost.
        await manager.connection.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await registration.click()
        told: dict[str, Any] = {}
        while len(told) < 2:
            message = await stream.next("progress", "backgroundfetchclick")
            told[message.type] = message.data

    assert told["progress"]["downloaded"] == 123
    assert told["backgroundfetchclick"]["event"] == "backgroundfetchclick.1"


async def test_a_window_goes_to_the_client_that_clicked(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-CLICK: the clicking client, else all of the scope's."""
    registration = await manager.fetch("ep-5", URL)
    async with (
        reading(gateway, OF_SCOPE, types="openwindow") as first,
        reading(gateway, OF_SCOPE, types="openwindow") as second,
    ):
        client = (await first.next("client")).data["client"]
        await second.next("client")
        mine = await registration.click(client=client)
        await registration.open_window(mine.event, "http://localhost/mine")
        anybodys = await registration.click()
        await registration.open_window(anybodys.event, "http://localhost/all")
        windows = [await first.next("openwindow"), await first.next("openwindow")]
        only = await second.next("openwindow")

    assert [window.data["url"] for window in windows] == [
        "http://localhost/mine",
        "http://localhost/all",
    ]
    assert only.data["url"] == "http://localhost/all"
    assert only.data["uid"] == registration.uid
    assert only.data["scope"] == SCOPE


async def test_a_window_of_a_client_that_has_gone_is_for_all(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL)
    async with reading(gateway, OF_SCOPE, types="openwindow") as gone:
        client = (await gone.next("client")).data["client"]
    async with reading(gateway, OF_SCOPE, types="openwindow") as other:
        await other.next("client")
        dispatch = await registration.click(client=client)
        await registration.open_window(dispatch.event, "http://localhost/a")
        elsewhere = await registration.click(client="0" * 12 + client[12:])
        await registration.open_window(elsewhere.event, "http://localhost/b")
        told = [await other.next("openwindow"), await other.next("openwindow")]

    urls = {message.data["url"] for message in told}
    assert urls == {"http://localhost/a", "http://localhost/b"}


async def test_what_cannot_be_read_is_a_problem(gateway: AsyncClient) -> None:
    for path, headers, status in (
        (f"{OF_SCOPE}?types=nonsense", {}, 422),
        (OF_SCOPE, {"Last-Event-ID": "yesterday"}, 422),
        ("/events", {"Last-Event-ID": "17-0"}, 422),
        ("/scopes/-/events", {}, 422),
        (f"/scopes/{SCOPE}/fetches/{'0' * 32}/events", {}, 404),
    ):
        answer = await gateway.get(f"/api/v1{path}", headers=headers)

        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_who_comes_when_the_last_reader_leaves_hears_of_the_next_event(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL)
    for number in range(1, 6):
        async with reading(gateway, OF_SCOPE, types="click") as stream:
            await stream.next("client")
            await registration.click()
            told = await stream.next("backgroundfetchclick")

        assert told.data["event"] == f"backgroundfetchclick.{number}"


async def test_many_readers_share_one_pub_sub_connection(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    ready = asyncio.Barrier(21)

    async def read() -> str:
        async with reading(gateway, OF_SCOPE) as stream:
            await stream.next("client")
            await ready.wait()
            return str((await stream.next("backgroundfetchabort")).data["event"])

    before = await _pubsubs(manager)
    registration = await manager.fetch("ep-5", URL)
    readers = [asyncio.create_task(read()) for _ in range(20)]
    await ready.wait()
    during = await _pubsubs(manager)
    await registration.abort()

    assert await asyncio.gather(*readers) == ["backgroundfetchabort"] * 20
    assert during - before <= 2  # the gateway's, and that of the manager itself


async def _pubsubs(manager: BackgroundFetchManager) -> int:
    clients = await manager.connection.redis.client_list(_type="pubsub")
    return len(clients)
