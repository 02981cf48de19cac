"""§ Update background fetch instances; § Abort: what instances hear, and when."""

from __future__ import annotations

import asyncio
import gc

from broker import BackgroundFetchManager, ProgressEvent
from tests.conformance.stage import SECONDS, Stage, until_downloaded
from tests.integration.outcomes import running
from workers import BackgroundFetchEvent, ServiceWorker

BODY = bytes(200_000)


async def test_after_the_result_an_instance_hears_nothing_more(
    stage: Stage, sw: ServiceWorker
) -> None:
    """BF-PROG-04 to -06, BF-PERF-08: not of the end of its records either."""
    stage.origin.add("/a", BODY)
    heard: list[tuple[int, str]] = []
    registration = await stage.fetch("/a")
    registration.onprogress = lambda event: heard.append(
        (event.target.downloaded, event.target.result)
    )
    sw.add_event_listener("backgroundfetchsuccess", lambda event: None)

    async with running(sw, stage.settings) as outcomes:
        await stage.perform(registration)
        await outcomes.until("acked")
        async with asyncio.timeout(SECONDS):
            while registration.records_available:
                await registration.refresh()

    assert heard[-1] == (len(BODY), "success")
    assert len(set(heard)) == len(heard)
    assert [result for _, result in heard].count("success") == 1


async def test_a_progress_event_is_plain_and_its_target_has_changed_before(
    stage: Stage,
) -> None:
    """BF-PROG-07, BF-PROG-01."""
    stage.origin.add("/a", BODY)
    registration = await stage.fetch("/a")
    events: list[ProgressEvent] = []
    seen: list[int] = []

    def hear(event: ProgressEvent) -> None:
        events.append(event)
        seen.append(registration.downloaded)

    registration.add_event_listener("progress", hear)
    await stage.perform(registration)

    assert {event.type for event in events} == {"progress"}
    assert all(event.target is registration for event in events)
    assert not hasattr(events[0], "loaded")
    assert seen[-1] == len(BODY)


async def test_nothing_is_kept_for_instances_that_are_not_there(
    stage: Stage,
) -> None:
    """BF-PROG-03: of keys there are as many after all progress as before."""
    hold = asyncio.Event()
    stage.origin.add("/a", BODY, hold=hold, hold_after=10_000)
    registration = await stage.fetch("/a")
    async with stage.performing(registration):
        await until_downloaded(registration, 10_000)
        ask = stage.manager.connection.ask
        before = await ask("KEYS", "*progress*")
        hold.set()

    assert before == []
    assert await ask("KEYS", "*progress*") == []


async def test_the_instance_has_the_result_before_the_handler_runs(
    stage: Stage, sw: ServiceWorker, elsewhere: BackgroundFetchManager
) -> None:
    """BF-EVT-12, BF-EVT-05, BF-PERF-06."""
    stage.origin.add("/a", BODY)
    registration = await stage.fetch("/a")
    mirror = await elsewhere.get("x")
    assert mirror is not None
    found: dict[str, object] = {}

    @sw.on("backgroundfetchsuccess")
    async def succeeded(event: BackgroundFetchEvent) -> None:
        handled = event.registration
        async with asyncio.timeout(SECONDS):
            async for _ in mirror.progress():
                pass
        found.update(
            ids=await elsewhere.get_ids(),
            result=(handled.result, handled.failure_reason),
            available=(handled.records_available, mirror.records_available),
            mirror=mirror.result,
        )

    async with running(sw, stage.settings) as outcomes:
        await stage.perform(registration)
        await outcomes.until("acked")

    assert found == {
        "ids": [],
        "result": ("success", ""),
        "available": (True, True),
        "mirror": "success",
    }


async def test_an_abort_is_seen_by_whoever_made_the_fetch(
    stage: Stage, elsewhere: BackgroundFetchManager
) -> None:
    """BF-ABORT-08, BF-ABORT-09, BF-PROG-09: whoever aborts it, a person too."""
    registration = await stage.fetch("/a")
    last: list[str] = []
    registration.onprogress = lambda event: last.append(event.target.failure_reason)
    person = await elsewhere.get("x")
    assert person is not None

    assert await person.abort() is True
    async with asyncio.timeout(SECONDS):
        async for _ in registration.progress():
            pass

    assert (registration.result, registration.failure_reason) == ("failure", "aborted")
    assert last == ["aborted"]
    assert await person.abort() is False


async def test_listeners_of_progress_are_called_as_in_the_dom(stage: Stage) -> None:
    """BF-IDL-07, BF-PROG-07: in order, the slot in its place, whatever one raises."""
    registration = await stage.fetch("/a")
    heard: list[str] = []
    later = asyncio.Event()

    def raises(event: ProgressEvent) -> None:
        heard.append("raises")
        raise ValueError("stops nobody")

    async def beside(event: ProgressEvent) -> None:
        heard.append("beside")
        later.set()

    registration.add_event_listener("progress", raises)
    registration.onprogress = lambda event: heard.append("never")
    registration.add_event_listener("progress", beside)
    registration.add_event_listener(
        "progress", lambda _: heard.append("last"), once=True
    )
    registration.add_event_listener("load", lambda _: heard.append("load"))
    registration.onprogress = lambda event: heard.append("slot")
    await registration.abort()
    async with asyncio.timeout(SECONDS):
        await later.wait()

    assert heard == ["raises", "slot", "last", "beside"]


async def test_a_registration_that_nobody_holds_is_heard_of_all_the_same(
    stage: Stage, elsewhere: BackgroundFetchManager
) -> None:
    """BF-INST-01: whether memory is freed cannot be seen."""
    heard, over = list[str](), asyncio.Event()

    def hear(event: ProgressEvent) -> None:
        heard.append(event.target.failure_reason)
        over.set()

    (await stage.fetch("/a")).onprogress = hear
    (await stage.fetch("/a", id="silent")).onprogress = None
    gc.collect()
    listening = [each.id for each in stage.manager.listening]
    other = await elsewhere.get("x")
    assert other is not None
    await other.abort()
    async with asyncio.timeout(SECONDS):
        await over.wait()

    assert listening == ["x"]
    assert heard == ["aborted"]
    assert stage.manager.listening == set()
