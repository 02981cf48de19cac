"""§ API: the interfaces, their members and their types."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable

import pytest

from broker import (
    BackgroundFetchManager,
    BackgroundFetchRecord,
    BackgroundFetchRegistration,
    Request,
    connect,
)
from broker.settings import Settings
from tests.conformance.stage import SECONDS, Stage
from tests.integration.outcomes import running
from workers import (
    BackgroundFetchEvent,
    BackgroundFetchUpdateUIEvent,
    ExtendableEvent,
    ServiceWorker,
)

URL = "https://cdn.example/a"
OTHER = "https://cdn.example/b"


async def test_a_scope_has_one_manager_and_ids_of_its_own(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """BF-IDL-01, BF-STATE-01."""
    async with connect(scope="other", settings=settings) as other:
        here = await manager.fetch("x", URL)
        there = await other.fetch("x", URL)

        assert (manager.scope, other.scope) == ("podcasts", "other")
        assert here.uid != there.uid
        assert await manager.get("x") is here
        assert await other.get("x") is there
    with pytest.raises(AttributeError):
        manager.scope = "another"  # type: ignore[misc]


def test_the_manager_has_the_methods_of_the_specification() -> None:
    """BF-IDL-02."""
    for name, members in (
        ("fetch", ["id", "requests"]),
        ("get", ["id"]),
        ("get_ids", []),
    ):
        method = getattr(BackgroundFetchManager, name)
        assert inspect.iscoroutinefunction(method)
        _, *given = inspect.signature(method).parameters.values()
        positional = [
            each.name for each in given if each.kind is each.POSITIONAL_OR_KEYWORD
        ]
        assert positional == members


@pytest.mark.parametrize(
    ("requests", "urls"),
    [
        (lambda: URL, [URL]),
        (lambda: Request(URL), [URL]),
        (lambda: [URL], [URL]),
        (lambda: [Request(OTHER), URL], [OTHER, URL]),
        (lambda: (URL, URL), [URL, URL]),
        (lambda: (each for each in (URL, OTHER)), [URL, OTHER]),
    ],
)
async def test_one_request_is_a_list_of_one_and_any_sequence_keeps_its_order(
    manager: BackgroundFetchManager,
    requests: Callable[[], str | Request | Iterable[str | Request]],
    urls: list[str],
) -> None:
    """BF-IDL-03."""
    registration = await manager.fetch("x", requests())

    found = [record.request.url for record in await registration.match_all()]
    assert found == urls


async def test_title_and_icons_may_be_left_out_each(
    manager: BackgroundFetchManager,
) -> None:
    """BF-IDL-04."""
    neither = await manager.fetch("a", URL)
    titled = await manager.fetch("b", URL, title="Episode 5")
    shown = await manager.fetch("c", URL, icons=[{"src": "/i.png"}])

    assert (neither.title, neither.icons) == ("", ())
    assert (titled.title, titled.icons) == ("Episode 5", ())
    assert (shown.title, [icon.src for icon in shown.icons]) == ("", ["/i.png"])


async def test_no_attribute_of_a_registration_can_be_set(
    manager: BackgroundFetchManager,
) -> None:
    """BF-IDL-05, BF-IDL-07: whole numbers, exact beyond 2**53."""
    registration = await manager.fetch("x", URL, download_total=2**64 - 1)

    assert registration.download_total == 2**64 - 1
    for name, kind in (
        ("id", str),
        ("upload_total", int),
        ("uploaded", int),
        ("download_total", int),
        ("downloaded", int),
        ("result", str),
        ("failure_reason", str),
        ("records_available", bool),
    ):
        assert isinstance(getattr(registration, name), kind)
        with pytest.raises(AttributeError):
            setattr(registration, name, getattr(registration, name))


async def test_the_methods_of_a_registration_give_what_the_specification_says(
    manager: BackgroundFetchManager,
) -> None:
    """BF-IDL-10: match needs a request, match_all does not."""
    registration = await manager.fetch("x", [URL, OTHER])

    with pytest.raises(TypeError):
        await registration.match()  # type: ignore[call-arg]
    assert isinstance(await registration.match(URL), BackgroundFetchRecord)
    assert await registration.match("https://nowhere.example/") is None
    assert len(await registration.match_all()) == 2
    assert await registration.abort() is True


async def test_a_record_is_read_only_and_its_response_is_ready_more_than_once(
    stage: Stage,
) -> None:
    """BF-IDL-11."""
    stage.origin.add("/a", b"body")
    registration = await stage.perform(await stage.fetch("/a"))
    record = await stage.record(registration, "/a")

    first, second = await record.response_ready, await record.response_ready

    assert (await first.read(), await second.read()) == (b"body", b"body")
    for name in ("request", "response_ready"):
        with pytest.raises(AttributeError):
            setattr(record, name, None)
    with pytest.raises(TypeError):
        BackgroundFetchRecord()  # type: ignore[call-arg]


async def test_an_event_has_the_registration_that_it_was_made_with(
    manager: BackgroundFetchManager,
) -> None:
    """BF-IDL-12, -13, -14."""
    registration = await manager.fetch("x", URL)

    event = BackgroundFetchUpdateUIEvent(
        "backgroundfetchfail", registration=registration
    )

    assert event.registration is registration
    assert event.type == "backgroundfetchfail"
    assert isinstance(event, BackgroundFetchEvent)
    assert isinstance(event, ExtendableEvent)
    assert inspect.iscoroutinefunction(event.update_ui)


async def test_each_event_has_its_class_whether_by_slot_or_listener(
    stage: Stage, sw: ServiceWorker
) -> None:
    """BF-IDL-16, BF-IDL-17, BF-UPD-01, BF-EVT-06: the handler's own instance."""
    heard: dict[str, list[type[object]]] = {}
    instances: list[BackgroundFetchRegistration] = []

    def hear(event: BackgroundFetchEvent) -> None:
        heard.setdefault(event.type, []).append(type(event))
        assert hasattr(event, "update_ui") == (type(event) is updating)
        instances.append(event.registration)

    plain, updating = BackgroundFetchEvent, BackgroundFetchUpdateUIEvent
    kinds = {"success": updating, "fail": updating, "abort": plain, "click": plain}
    for kind in kinds:
        setattr(sw, f"onbackgroundfetch{kind}", hear)
        sw.add_event_listener(f"backgroundfetch{kind}", lambda event: hear(event))
    stage.origin.add("/a", b"")

    async with running(sw, stage.settings) as outcomes:
        good = await stage.perform(await stage.fetch("/a", id="good"))
        await stage.perform(await stage.fetch("/missing", id="bad"))
        await (await stage.fetch("/a", id="ended")).abort()
        await good.click()
        for _ in kinds:
            await outcomes.until("acked")

    assert heard == {f"backgroundfetch{kind}": [of] * 2 for kind, of in kinds.items()}
    assert all(isinstance(each, BackgroundFetchRegistration) for each in instances)
    of_good = [each for each in instances if each.uid == good.uid]
    assert all(each is of_good[0] for each in of_good)


async def test_attributes_are_copies_that_are_read_without_asking_anybody(
    settings: Settings,
) -> None:
    """BF-INST-03: also when there is nobody to ask any more."""
    async with connect(scope="podcasts", settings=settings) as manager:
        registration = await manager.fetch("x", URL, title="Episode 5")
        async with connect(scope="podcasts", settings=settings) as other:
            same = await other.get("x")
            assert same is not None
            assert await same.abort()
        async with asyncio.timeout(SECONDS):
            async for _ in registration.progress():
                pass

    assert (registration.title, registration.failure_reason) == ("Episode 5", "aborted")
