"""Plays scenarios on this project: a producer, a lane for each fetch, a subscriber.

What comes of a step is told in the browser's words, as ``player.js`` tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from broker.manager import BackgroundFetchManager, connect
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from broker.response import Response
from broker.settings import Settings
from schemas.bodies import BodyStream
from schemas.errors import BackgroundFetchError
from schemas.requests import Request
from tests.integration.outcomes import running
from tests.oracle.scenarios import Stage, Step, Trace, digest, label
from workers.engine import Engine
from workers.events import BackgroundFetchEvent, BackgroundFetchUpdateUIEvent
from workers.service_worker import ServiceWorker

WATCHED = ("content-length", "content-range", "etag", "x-told")
NAMES = {
    "downloadTotal": "download_total",
    "ignoreMethod": "ignore_method",
    "ignoreSearch": "ignore_search",
    "ignoreVary": "ignore_vary",
}


class Ours:
    """A producer and a subscriber of a scope that is the scenario's alone."""

    def __init__(
        self, settings: Settings, engine: Engine, stage: Stage, worker: tuple[Step, ...]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._stage = stage
        self._worker = worker
        self._stack = AsyncExitStack()
        self._lanes: list[asyncio.Task[None]] = []
        self._fetches: dict[str, BackgroundFetchRegistration] = {}
        self._heard: dict[str, list[Trace]] = {}
        self._latest = ""
        self._events: asyncio.Queue[Trace] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self._manager: BackgroundFetchManager = await enter(
            connect(
                scope=self._stage.name,
                base_url=self._stage.base,
                settings=self._settings,
            )
        )
        service_worker = ServiceWorker(self._stage.name)
        for end in ("success", "fail", "abort", "click"):
            service_worker.add_event_listener(f"backgroundfetch{end}", self._handle)
        await enter(running(service_worker, self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await asyncio.gather(*self._lanes)

    async def play(
        self, step: Step, event: BackgroundFetchEvent | None = None
    ) -> Trace:
        """Carry out a step of the page, or of a listener; return what came of it."""
        of = event.registration if event else None
        of = of or self._fetches.get(step.get("of", self._latest))

        async def act() -> Any:
            if step["do"] == "fetch":
                return await self._fetch(step)
            if step["do"] == "event":
                return await self._events.get()
            if step["do"] == "getIds":
                return await self._manager.get_ids()
            if step["do"] == "get":
                found = await self._manager.get(step["id"])
                return found and {**attributes(found), "same": found is of}
            assert of is not None, f"no fetch to {step}"
            return await self._of(of, step, event)

        return await outcome(act)

    async def _fetch(self, step: Step) -> Trace:
        given = step["requests"]
        requests = [_request(item) for item in given]
        fetched = await self._manager.fetch(
            step["id"],
            _request(given) if isinstance(given, str) else requests,
            **_options(step),
        )
        told = attributes(fetched)
        heard = self._heard[fetched.uid] = []
        fetched.onprogress = lambda _: heard.append(attributes(fetched))
        self._fetches[step["id"]] = fetched
        self._latest = step["id"]
        lane = self._engine.perform(fetched.scope, fetched.uid, "job")
        self._lanes.append(asyncio.create_task(lane))
        return told

    async def _of(
        self,
        of: BackgroundFetchRegistration,
        step: Step,
        event: BackgroundFetchEvent | None,
    ) -> Any:
        match step["do"]:
            case "attributes":
                return attributes(of)
            case "available":
                return of.records_available
            case "abort":
                return await of.abort()
            case "progress":
                return self._heard[of.uid][-1]
            case "updateUI":
                if not isinstance(event, BackgroundFetchUpdateUIEvent):
                    raise TypeError("no such method")
                return await event.update_ui(**_options(step))
            case "until" | "settled":
                return await _until(of, step.get("downloaded"))
            case "released":
                await of.settled()
                await of.refresh()
                assert not of.records_available
                return attributes(of)
        return await self._matched(of, step)

    async def _matched(self, of: BackgroundFetchRegistration, step: Step) -> Any:
        wanted = _request(step["request"]) if "request" in step else None
        match step["do"]:
            case "match":
                assert wanted is not None
                one = await of.match(wanted, **_options(step))
                return one and self._named(one)
            case "matchAll":
                found = await of.match_all(wanted, **_options(step))
                return sorted(self._named(record) for record in found)
            case "ordered":
                names = [self._named(record) for record in await of.match_all()]
                return names == sorted(names)
            case "records":
                told = [await self._described(each) for each in await of.match_all()]
                return sorted(told, key=lambda each: str(each["record"]))
            case "early":
                assert wanted is not None
                first = await of.match(wanted)
                assert first is not None
                await first.response_ready
                return True
        raise AssertionError(f"nobody knows how to {step}")

    async def _handle(self, event: BackgroundFetchEvent) -> None:
        told = {
            "type": event.type,
            "class": type(event).__name__,
            "trusted": event.is_trusted,
            "updatable": hasattr(event, "update_ui"),
            "registration": attributes(event.registration),
            "steps": {
                label(each): await self.play(each, event) for each in self._worker
            },
        }
        self._events.put_nowait(told)

    def _shown(self, url: str) -> str:
        return url.removeprefix(self._stage.base)

    def _named(self, record: BackgroundFetchRecord) -> str:
        return f"{record.request.method} {self._shown(record.request.url)}"

    async def _described(self, record: BackgroundFetchRecord) -> Trace:
        async def response() -> Trace:
            return await self._answered(await record.response_ready)

        async def request() -> str:
            body = record.request.body
            if isinstance(body, BodyStream):
                return digest(b"".join([block async for block in body]))
            return digest(record.request.content)

        return {
            "record": self._named(record),
            "request": await outcome(request),
            "response": await outcome(response),
        }

    async def _answered(self, response: Response) -> Trace:
        async def body() -> str:
            return digest(await response.read())

        return {
            "status": response.status,
            "ok": response.ok,
            "type": response.type,
            "url": self._shown(response.url),
            "redirected": response.redirected,
            "headers": {name: name in response.headers for name in WATCHED},
            "body": await outcome(body),
        }


async def outcome(act: Callable[[], Awaitable[Any]]) -> Trace:
    """What a call came to, or the specification's name for what it raised."""
    try:
        return {"resolved": await act()}
    except BackgroundFetchError as error:
        return {"rejected": error.spec_name}
    except TypeError:
        return {"rejected": "TypeError"}


def attributes(of: BackgroundFetchRegistration) -> Trace:
    """The attributes of a registration, by the names of the IDL."""
    return {
        "id": of.id,
        "uploadTotal": of.upload_total,
        "uploaded": of.uploaded,
        "downloadTotal": of.download_total,
        "downloaded": of.downloaded,
        "result": str(of.result),
        "failureReason": str(of.failure_reason),
    }


async def _until(of: BackgroundFetchRegistration, downloaded: int | None) -> Any:
    async for snapshot in of.progress():
        if downloaded is not None and snapshot.downloaded >= downloaded:
            return None
    return attributes(of)


def _request(item: str | dict[str, Any]) -> str | Request:
    return item if isinstance(item, str) else Request(**item)


def _options(step: Step) -> dict[str, Any]:
    told = step.get("options", {})
    return {NAMES.get(name, name): value for name, value in told.items()}
