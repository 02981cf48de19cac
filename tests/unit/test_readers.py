"""What waits for one reader of the feed, however slow it is."""

from __future__ import annotations

import asyncio

from broker.gateway.live.news import News, Wanted
from broker.gateway.live.reader import CHUNK, MOST_WAITING, Reader


def news(key: str, text: str = "", type: str = "progress") -> News:
    """A message whose bytes are its text."""
    return News(type, key, lambda: (text or key).encode())


def reader(*types: str) -> Reader:
    """A reader that nobody has read from yet."""
    wanted = Wanted("podcasts", None, frozenset(types)) if types else Wanted("podcasts")
    return Reader(wanted, "0" * 12)


async def test_the_newest_state_of_a_fetch_replaces_the_one_that_waits() -> None:
    slow = reader()
    for number in range(10 * MOST_WAITING):
        slow.offer(news("progress a", f"[{number}]"))
    slow.offer(news("17-0", "[event]", "backgroundfetchsuccess"))

    assert await slow.next() == f"[{10 * MOST_WAITING - 1}][event]".encode()
    assert not slow.ending


async def test_a_reader_that_is_too_slow_for_events_is_ended_with_what_it_has() -> None:
    """The id of its last event is what it resumes from."""
    slow = reader()
    for number in range(MOST_WAITING + 1):
        slow.offer(news(f"{number}-0", type="backgroundfetchclick"))

    assert slow.ending == "too slow"
    assert await slow.next() == b""
    assert not slow.offer(news("progress a"))


async def test_a_message_is_encoded_once_for_all_and_not_for_nobody() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"told"

    shared = News("progress", "progress a", make)
    readers = [reader(), reader(), reader("openwindow")]

    taken = [each.offer(shared) for each in readers]
    first, second = await readers[0].next(), await readers[1].next()

    assert taken == [True, True, False]
    assert first is second
    assert len(made) == 1


async def test_what_waits_behind_a_chunk_can_still_be_replaced() -> None:
    slow = reader()
    slow.offer(news("progress a", "x" * CHUNK))
    slow.offer(news("progress b", "old"))

    await slow.next()
    slow.offer(news("progress b", "new"))

    assert await slow.next() == b"new"


async def test_a_sign_of_life_is_shown_only_to_who_has_no_news() -> None:
    idle = reader()
    waiting = asyncio.create_task(idle.next())
    await asyncio.sleep(0)
    idle.sign(b": ping\n\n")
    sign = await waiting
    idle.offer(news("progress a", "news"))
    idle.sign(b": ping\n\n")

    assert sign == b": ping\n\n"
    assert await idle.next() == b"news"


async def test_the_end_comes_after_what_waits() -> None:
    ending = reader()
    ending.offer(news("17-0", "last", "backgroundfetchsuccess"))
    ending.end("stopping")

    assert [await ending.next(), await ending.next()] == [b"last", b""]
