"""Pausing a background fetch: connections close, bytes stay, nothing has failed."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from broker.agenda import Agenda, Look, Verdict
from broker.cli.app import command_line, run
from broker.connection import Connection
from broker.embedded import EmbeddedServer
from broker.keys import AGENDA, FetchKeys, ScopeKeys
from broker.lanes import LaneHold, Opened, RecordReport, Refusal
from broker.manager import BackgroundFetchManager, connect
from broker.queue import queue_key
from broker.registration import BackgroundFetchRegistration
from broker.scripts import Argument
from broker.settings import Settings
from schemas.errors import InvalidState
from schemas.fetches import Priority
from schemas.records import Checkpoint, RecordResult, RecordState
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.wire import Scripted
from workers.engine import Engine

URL = "https://cdn.example/1"
HALF = b"x" * 400_000
ENDED = RecordReport(0, 1, result=RecordResult.SUCCESS, state=RecordState())
PLACES = ScopeKeys(SCOPE).places(Priority.AUTO)


def keys_of(registration: BackgroundFetchRegistration) -> FetchKeys:
    return FetchKeys(SCOPE, registration.uid)


async def take(
    manager: BackgroundFetchManager,
    registration: BackgroundFetchRegistration,
    want: int = 10,
) -> tuple[LaneHold, Refusal | Opened]:
    """Take a lane, as the fetch's job in the queue does."""
    hold = LaneHold(manager.connection, manager.settings, keys_of(registration))
    job: bytes = await manager.connection.ask("LPOP", queue_key("auto"))
    return hold, await hold.take(job.decode(), want)


async def look(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
) -> Look:
    agenda = Agenda(manager.connection, manager.settings)
    return await agenda.look(keys_of(registration))


async def is_in_agenda(
    manager: BackgroundFetchManager, registration: BackgroundFetchRegistration
) -> bool:
    member = keys_of(registration).member
    return await manager.connection.ask("ZSCORE", AGENDA, member) is not None


class Interrupted:
    """An origin that sends half of a body, and the rest only when asked for it."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        """Set when the client has closed the connection with the first half."""
        self.heads: list[bytes] = []

    async def begin(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send the first half, and wait until nobody listens any more."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        length = f"Content-Length: {2 * len(HALF)}".encode()
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "v"\r\n' + length + b"\r\n\r\n" + HALF)
        await writer.drain()
        await reader.read()
        self.closed.set()

    async def go_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send the second half, whatever was asked for."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        first, size = len(HALF), 2 * len(HALF)
        writer.write(
            f'HTTP/1.1 206 Partial Content\r\nETag: "v"\r\nContent-Length: {first}\r\n'
            f"Content-Range: bytes {first}-{size - 1}/{size}\r\n\r\n".encode()
            + HALF
        )
        await writer.drain()


async def arrived(registration: BackgroundFetchRegistration, size: int) -> None:
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.downloaded >= size:
                return


async def test_a_pause_closes_the_connection_and_a_resume_goes_on_after_the_last_byte(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-REC-22, -23, BF-DISP-02: nothing of the record's state says that it failed."""
    script = Interrupted()
    async with Scripted(script.begin, script.go_on) as origin:
        registration = await manager.fetch("a", origin.url)
        lane = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
        await arrived(registration, len(HALF))

        assert await registration.pause()
        async with asyncio.timeout(60):
            await script.closed.wait()
            await lane

        [record] = await registration.match_all()
        look = await record.refresh()
        assert (look.result, look.failure_reason) == ("", "")
        assert registration.result == ""
        assert registration.paused
        assert registration.downloaded == len(HALF)
        assert origin.connections == 1
        assert not await is_in_agenda(manager, registration)
        assert await manager.connection.ask("ZCARD", PLACES) == 0

        assert await registration.resume()
        async with asyncio.timeout(60):
            await engine.perform(SCOPE, registration.uid, "job-2")
        await registration.refresh()

        assert f"Range: bytes={len(HALF)}-".encode() in script.heads[1]
        assert (registration.result, registration.paused) == ("success", False)
        assert await (await record.response_ready).read() == HALF + HALF


async def test_no_attempt_starts_while_a_fetch_is_paused(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """BF-REC-01, R25: its job comes to nothing, and the agenda asks for no other."""
    async with Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as origin:
        registration = await manager.fetch("a", origin.url)
        await registration.pause()

        await engine.perform(SCOPE, registration.uid, "job")

        assert not await is_in_agenda(manager, registration)
        assert origin.connections == 0
        await registration.resume()
        assert await is_in_agenda(manager, registration)
        await engine.perform(SCOPE, registration.uid, "job")
        await registration.refresh()
        assert (registration.result, origin.connections) == ("success", 1)


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_a_fetch_is_paused_only_if_every_request_is_a_get(
    manager: BackgroundFetchManager, method: str
) -> None:
    """BF-DISP-08."""
    registration = await manager.fetch("a", [URL, Request(URL, method=method)])

    with pytest.raises(InvalidState, match="'a' cannot be paused: only one all of"):
        await registration.pause()

    assert not registration.paused
    assert not registration.state.pausable
    assert isinstance((await take(manager, registration))[1], Opened)


async def test_pausing_and_resuming_twice_is_once(
    manager: BackgroundFetchManager,
) -> None:
    registration = await manager.fetch("a", URL)

    assert not await registration.resume()
    assert await registration.pause()
    assert not await registration.pause()
    assert await registration.resume()
    assert not await registration.resume()

    assert await manager.connection.ask("LLEN", queue_key("auto")) == 1


async def test_an_ended_fetch_can_be_neither_paused_nor_resumed(
    manager: BackgroundFetchManager,
) -> None:
    registration = await manager.fetch("a", URL)
    await registration.abort()

    with pytest.raises(InvalidState, match="'a' has ended"):
        await registration.pause()
    with pytest.raises(InvalidState, match="'a' has ended"):
        await registration.resume()


class _Lossy(Connection):
    """Loses the first answer to a script, and repeats it after something happened."""

    def __init__(
        self, url: str, script: str, meanwhile: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(url)
        self._script = script
        self._meanwhile = meanwhile

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name == self._script:
            await super().run(name, keys, arguments)
            await self._meanwhile()
        return await super().run(name, keys, arguments)


async def test_a_pause_whose_answer_was_lost_does_not_undo_a_resume(
    manager: BackgroundFetchManager,
) -> None:
    """R23: the repetition has its token."""
    registration = await manager.fetch("a", URL)
    async with connect(scope=SCOPE, settings=manager.settings) as other:
        mine = await other.get("a")
        assert mine is not None
        await other.connection.aclose()
        other.connection = _Lossy(
            manager.connection.url, "pause_fetch", registration.resume
        )

        assert await mine.pause()

        await registration.refresh()
        assert not registration.paused
        await other.connection.aclose()


async def test_a_resume_whose_answer_was_lost_returns_its_jobs_again(
    manager: BackgroundFetchManager,
) -> None:
    """R1, R23: they are enqueued by the call that hears of them."""
    registration = await manager.fetch("a", URL)
    await registration.pause()
    await manager.connection.ask("DEL", queue_key("auto"))
    async with connect(scope=SCOPE, settings=manager.settings) as other:
        mine = await other.get("a")
        assert mine is not None
        await other.connection.aclose()
        other.connection = _Lossy(
            manager.connection.url, "resume_fetch", registration.refresh
        )

        assert await mine.resume()

        assert not mine.paused
        assert await manager.connection.ask("LLEN", queue_key("auto")) == 1
        await other.connection.aclose()


async def test_a_lane_that_heard_nothing_is_told_at_its_next_report(
    manager: BackgroundFetchManager,
) -> None:
    """R13's way for a pause: no more records, no longer lease; what it had is kept."""
    registration = await manager.fetch("a", [URL, URL])
    keys = keys_of(registration)
    hold, _ = await take(manager, registration)
    [before] = await manager.connection.ask("HVALS", keys.lanes)
    await registration.pause()
    checkpoint = Checkpoint(store="s", part="p", length=7)
    given = timedelta(0)

    answer = await hold.report(
        [RecordReport(0, 7, delay=given, state=RecordState(checkpoint=checkpoint))],
        want=10,
        held=1,
    )

    assert answer.paused
    assert answer.refusal is None
    assert answer.claims == ()
    assert await manager.connection.ask("HVALS", keys.lanes) == [before]
    await hold.leave()
    assert (await look(manager, registration)).verdict is Verdict.WAIT
    assert not await is_in_agenda(manager, registration)
    await registration.resume()
    _, opened = await take(manager, registration)
    assert isinstance(opened, Opened)
    assert opened.claims[0].state.checkpoint == checkpoint
    assert opened.claims[0].stored == 7


async def test_a_lane_that_dies_while_its_fetch_is_paused_loses_its_records(
    manager: BackgroundFetchManager, clock: Clock
) -> None:
    """Guarantee 7, R25: when its lease ends, and nobody takes its place."""
    registration = await manager.fetch("a", URL)
    keys = keys_of(registration)
    await take(manager, registration)
    await registration.pause()
    assert await is_in_agenda(manager, registration)

    await clock.age_lanes(keys, manager.settings.lease * 2)
    found = await look(manager, registration)

    assert (found.verdict, found.jobs) == (Verdict.WAIT, ())
    assert len(found.dead_jobs) == 1
    assert await manager.connection.ask("ZRANGE", keys.pool, 0, -1) == [b"0"]
    assert not await is_in_agenda(manager, registration)
    await registration.resume()
    assert isinstance((await take(manager, registration))[1], Opened)


async def test_a_dead_lane_does_not_keep_a_resumed_fetch_waiting(
    manager: BackgroundFetchManager, clock: Clock
) -> None:
    """R25: the resume finds its lease over."""
    registration = await manager.fetch("a", URL)
    await take(manager, registration)
    await registration.pause()
    await clock.age_lanes(keys_of(registration), manager.settings.lease * 2)

    await registration.resume()

    assert isinstance((await take(manager, registration))[1], Opened)


async def test_a_lane_that_had_not_left_goes_on_after_a_resume(
    manager: BackgroundFetchManager,
) -> None:
    """A pause that was shorter than a heartbeat wants no second lane."""
    registration = await manager.fetch("a", URL)
    hold, _ = await take(manager, registration)

    await registration.pause()
    await registration.resume()

    assert await manager.connection.ask("LLEN", queue_key("auto")) == 0
    answer = await hold.report([ENDED], want=0, held=0)
    assert answer.refusal is Refusal.ENDED


async def test_a_record_that_ended_before_its_lane_heard_of_the_pause_has_ended(
    manager: BackgroundFetchManager,
) -> None:
    """BF-REC-22: the result is captured; the last one settles the fetch (R14)."""
    registration = await manager.fetch("a", URL)
    hold, _ = await take(manager, registration)
    await registration.pause()

    answer = await hold.report([ENDED], want=0, held=0)

    await registration.refresh()
    assert answer.refusal is Refusal.ENDED
    assert (registration.result, registration.paused) == ("success", False)


async def test_a_paused_fetch_can_be_clicked_and_aborted(
    manager: BackgroundFetchManager,
) -> None:
    """Guarantee 5."""
    registration = await manager.fetch("a", URL)
    await registration.pause()

    assert (await registration.click()).event == "backgroundfetchclick.1"
    assert await registration.abort()

    assert registration.failure_reason == "aborted"
    assert not registration.paused
    assert await manager.get("a") is None
    rows = await manager.connection.ask("XRANGE", ScopeKeys(SCOPE).events, "-", "+")
    types = [row[1][b"delivery"].decode().rpartition("/")[2] for row in rows]
    assert types == ["backgroundfetchclick.1", "backgroundfetchabort"]
    assert await is_in_agenda(manager, registration)


async def test_all_lanes_of_a_large_fetch_leave_and_return(settings: Settings) -> None:
    settings = settings.model_copy(update={"lane_size": 1})
    async with connect(scope=SCOPE, settings=settings) as manager:
        registration = await manager.fetch("a", [URL, URL])
        lanes = [(await take(manager, registration, 1))[0] for _ in range(2)]

        await registration.pause()
        for lane in lanes:
            assert (await lane.report([], want=1, held=1)).paused
            await lane.leave()
        await registration.resume()

        assert await manager.connection.ask("LLEN", queue_key("auto")) == 2


async def test_a_paused_fetch_takes_nobodys_place(settings: Settings) -> None:
    """R25: neither in RQ nor in line; a resumed one is admitted like others."""
    settings = settings.model_copy(update={"scope_lanes": 1})
    async with connect(scope=SCOPE, settings=settings) as manager:
        first, second, third = [await manager.fetch(id, URL) for id in "abc"]
        waiting = ScopeKeys(SCOPE).waiting(Priority.AUTO)

        await second.pause()
        assert await manager.connection.ask("ZCARD", waiting) == 1
        await first.pause()

        jobs = await manager.connection.ask("LRANGE", queue_key("auto"), 0, -1)
        assert [job.decode().partition("-")[0] for job in jobs] == [
            first.uid,
            third.uid,
        ]
        assert await manager.connection.ask("ZCARD", waiting) == 0
        await second.resume()
        [job] = await manager.connection.ask("ZRANGE", waiting, 0, -1)
        assert job.decode().startswith(second.uid)


async def test_the_time_of_a_pause_does_not_count_towards_the_deadline(
    manager: BackgroundFetchManager,
) -> None:
    registration = await manager.fetch("a", URL)
    await registration.pause()
    day = 86_400_000
    for field in ("createdAt", "pausedAt"):
        key = keys_of(registration).fetch
        await manager.connection.ask("HINCRBY", key, field, -day)

    await registration.resume()
    _, opened = await take(manager, registration)

    assert isinstance(opened, Opened)
    assert opened.age < timedelta(hours=1)


async def test_a_pause_is_seen_by_all_and_is_no_progress_event(
    manager: BackgroundFetchManager,
) -> None:
    """BF-DISP-02; BF-PROG-06: no attribute of the specification has changed."""
    registration = await manager.fetch("a", URL)
    events: list[object] = []
    registration.onprogress = events.append
    seen = registration.progress()
    assert not (await anext(seen)).paused
    async with connect(scope=SCOPE, settings=manager.settings) as other:
        mine = await other.get("a")
        assert mine is not None

        await mine.pause()
        async with asyncio.timeout(60):
            assert (await anext(seen)).paused
        await mine.resume()
        async with asyncio.timeout(60):
            assert not (await anext(seen)).paused

    assert events == []
    await seen.aclose()  # type: ignore[attr-defined]


async def test_a_pause_survives_a_restart_of_everything(settings: Settings) -> None:
    """BF-LIFE-07."""
    with tempfile.TemporaryDirectory(prefix="bg", dir="/tmp") as directory:
        with EmbeddedServer.start(Path(directory), die_with_parent=True) as server:
            settings = settings.model_copy(update={"redis_url": server.url})
            async with connect(scope=SCOPE, settings=settings) as manager:
                await (await manager.fetch("a", URL)).pause()

        with EmbeddedServer.start(Path(directory), die_with_parent=True):
            engine = Engine(settings, reclaiming=False)
            await engine.start()
            async with connect(scope=SCOPE, settings=settings) as manager:
                registration = await manager.get("a")
                assert registration is not None
                await engine.reclaimer.make_pass()
                await engine.perform(SCOPE, registration.uid, "job")

                assert registration.paused
                [record] = await registration.match_all()
                assert (await record.refresh()).attempts == 0
            await engine.aclose()


def test_the_command_line_pauses_resumes_and_shows_it(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        line = [*words, "--redis-url", redis_url]
        code = run(command_line(), ["never", "started"], line)
        ended = capsys.readouterr()
        return code, ended.out, ended.err

    call("fetch", URL, "--id", "a")
    call("fetch", URL, "--id", "b", "--method", "HEAD")

    assert call("pause", "a")[0] == 0
    code, shown, _ = call("pause", "a", "--json")
    assert (code, json.loads(shown)["paused"]) == (0, True)
    assert json.loads(call("get", "a", "--json")[1])["paused"] is True
    assert "state:       paused\n" in call("get", "a")[1]
    assert "a\tpaused\t" in call("list")[1]

    code, shown, _ = call("resume", "a", "--json")
    assert (code, json.loads(shown)["paused"]) == (0, False)
    assert "state:       active" in call("get", "a")[1]

    code, out, err = call("pause", "b")
    assert (out, err.count("\n")) == ("", 1)
    assert code != 0
    assert "'b' cannot be paused" in err
    code, _, err = call("pause", "nothing")
    assert code == 1
    assert "no active fetch 'nothing' in scope 'default'" in err
