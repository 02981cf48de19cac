"""What is asked at the same time is sent together, and what nobody wants is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.together import Together


class Post:
    """Answers a batch once it is let go, and keeps what it was sent."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def send(self, items: Sequence[str]) -> list[str | Exception]:
        """Take a batch."""
        self.batches.append(list(items))
        self.begun.set()
        await self.go.wait()
        return [ValueError(item) if item == "bad" else item.upper() for item in items]


async def test_what_is_asked_while_a_batch_is_under_way_makes_the_next_one() -> None:
    post = Post()
    together = Together(post.send, 2, "test")
    first = asyncio.create_task(together.ask("a"))
    await post.begun.wait()
    others = asyncio.create_task(together.ask_all(["b", "c", "d"]))
    await asyncio.sleep(0)
    post.go.set()

    assert (await first, await others) == ("A", ["B", "C", "D"])
    assert post.batches == [["a"], ["b", "c"], ["d"]]


async def test_what_is_given_up_before_its_batch_begins_is_never_sent() -> None:
    """R20: a begin that is cancelled must not follow its own hand-back."""
    post = Post()
    together = Together(post.send, 10, "test")
    first = asyncio.create_task(together.ask("a"))
    await post.begun.wait()
    given_up, other = (asyncio.create_task(together.ask(item)) for item in "bc")
    await asyncio.sleep(0)
    given_up.cancel()
    post.go.set()

    assert (await first, await other) == ("A", "C")
    assert post.batches == [["a"], ["c"]]


async def test_what_is_given_up_later_disturbs_nobody_in_its_batch() -> None:
    post = Post()
    together = Together(post.send, 10, "test")
    given_up, other = (asyncio.create_task(together.ask(item)) for item in "ab")
    await post.begun.wait()
    given_up.cancel()
    post.go.set()

    assert await other == "B"
    assert post.batches == [["a", "b"]]


async def test_an_error_belongs_to_its_item() -> None:
    post = Post()
    post.go.set()
    together = Together(post.send, 10, "test")
    good, bad = (asyncio.create_task(together.ask(item)) for item in ("good", "bad"))

    assert await good == "GOOD"
    with pytest.raises(ValueError, match="bad"):
        await bad
