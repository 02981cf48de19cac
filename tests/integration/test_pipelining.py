"""Commands that share a pipeline: one round trip, and still each its own answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from broker.connection import Connection
from broker.embedded import EmbeddedServer
from broker.pipelining import MOST, Pipelining


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    opened = Connection(redis_url)
    yield opened
    await opened.aclose()


async def reads(connection: Connection) -> int:
    """How often the server has read from a connection."""
    stats = await connection.redis.info("stats")
    return int(stats["total_reads_processed"])


async def test_what_many_tasks_ask_at_once_takes_a_few_round_trips(
    connection: Connection,
) -> None:
    await connection.ping()
    before = await reads(connection)

    answers = await asyncio.gather(
        *(connection.ask("ECHO", str(n)) for n in range(2 * MOST))
    )

    assert answers == [str(n).encode() for n in range(2 * MOST)]
    assert await reads(connection) - before < 10


async def test_an_error_concerns_its_own_command_alone(connection: Connection) -> None:
    await connection.ask("SET", "text", "no list")

    answers = await asyncio.gather(
        connection.ask("GET", "text"),
        connection.ask("LPUSH", "text", "x"),
        connection.ask("GET", "text"),
        return_exceptions=True,
    )

    assert (answers[0], answers[2]) == (b"no list", b"no list")
    assert isinstance(answers[1], ResponseError)


async def test_an_asker_that_is_cancelled_disturbs_nobody(
    connection: Connection,
) -> None:
    tasks = [asyncio.create_task(connection.ask("INCR", "n")) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[2], asyncio.CancelledError)
    assert [answer for answer in answers if isinstance(answer, int)] == [1, 2, 3, 4]


async def test_arguments_arrive_as_they_were_given(connection: Connection) -> None:
    given: list[str | bytes | int] = [
        "",
        "é",
        " two  words ",
        b"\x00\r\n\xff",
        2**63,
        -1,
    ]

    await connection.ask("RPUSH", "all", *given)

    assert await connection.ask("LRANGE", "all", 0, -1) == [
        value if isinstance(value, bytes) else str(value).encode() for value in given
    ]


async def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    connection: Connection,
) -> None:
    await connection.ping()
    await connection.redis.client_kill_filter(_type="normal", skipme=True)

    assert await connection.ask("ECHO", "still here") == b"still here"


async def test_a_server_that_hangs_fails_all_who_wait_and_not_who_come_later(
    tmp_path: Path,
) -> None:
    with EmbeddedServer.start(tmp_path / "redis") as server:
        redis = Redis.from_url(server.url, socket_timeout=None)
        pipelining = Pipelining(redis, patience=0.2)
        await pipelining.ask("PING")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            answers = await asyncio.gather(
                *(pipelining.ask("PING") for _ in range(3)), return_exceptions=True
            )
        finally:
            os.kill(server.pid, signal.SIGCONT)

        assert [type(answer) for answer in answers] == [TimeoutError] * 3
        assert await pipelining.ask("ECHO", "back") == b"back"
        await pipelining.aclose()
        await redis.aclose()


async def test_closing_gives_up_what_is_under_way(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path / "redis") as server:
        redis = Redis.from_url(server.url, socket_timeout=None)
        pipelining = Pipelining(redis, patience=60)
        await pipelining.ask("PING")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(pipelining.ask("PING"))
            await asyncio.sleep(0)
            await pipelining.aclose()
            with pytest.raises((asyncio.CancelledError, RedisError)):
                await waiting
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await redis.aclose()
