"""May a scope fetch at all: its permission, and whether it needs a subscriber."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from broker.agenda import Agenda
from broker.connection import Connection
from broker.keys import AGENDA, FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager, connect
from broker.policies import write_policy
from broker.queue import queue_key
from broker.scripts import Argument
from broker.settings import Settings
from schemas.errors import DuplicateFetch, NoActiveWorker, NotAllowed
from schemas.policies import Permission, ScopePolicy
from schemas.requests import Request
from tests.integration.clock import SCOPE, Clock
from tests.integration.commands import Bgfetch
from tests.integration.delivering import Process
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

URL = "https://cdn.example/1"
PROMPT = ScopePolicy(permission=Permission.PROMPT)
DENIED = ScopePolicy(permission=Permission.DENIED)


async def put(manager: BackgroundFetchManager, policy: ScopePolicy) -> None:
    await write_policy(manager.connection, SCOPE, policy)


@pytest.mark.parametrize("body", [b"", b"x" * 100_000])
async def test_a_denied_permission_comes_before_all_that_the_scope_says(
    manager: BackgroundFetchManager, body: bytes
) -> None:
    """BF-FETCH-10: the id is in use, and nobody subscribes; nothing is stored."""
    await manager.fetch("a", URL)
    denied = DENIED.model_copy(
        update={"require_active_worker": True, "deny": ("cdn.example",)}
    )
    await put(manager, denied)
    before = await manager.connection.ask("KEYS", "*")
    request = Request(URL, method="POST", body=io.BytesIO(body))

    with pytest.raises(NotAllowed, match="see `bgfetch scope show`") as refused:
        await manager.fetch("a", request)

    assert refused.value.spec_name == "NotAllowedError"
    assert await manager.connection.ask("KEYS", "*") == before
    await put(manager, ScopePolicy())
    with pytest.raises(DuplicateFetch):
        await manager.fetch("a", URL)


@pytest.mark.parametrize("permission", ["granted", "denied", "prompt"])
async def test_the_permission_of_a_scope_can_be_asked_for(
    manager: BackgroundFetchManager, settings: Settings, permission: str
) -> None:
    """BF-FETCH-11: of each scope; granted by default."""
    assert await manager.permission() == "granted"

    await put(manager, ScopePolicy.checked(permission=permission))

    assert await manager.permission() == permission
    async with connect(scope="other", settings=settings) as other:
        assert await other.permission() is Permission.GRANTED


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_fetch_that_needs_approval_waits_for_it_without_traffic(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, method: str
) -> None:
    """BF-DISP-11: of any method, since nothing was sent; R25: and is in no queue."""
    origin.add("/a", b"body")
    await put(manager, PROMPT)

    registration = await manager.fetch("a", Request(origin.url("/a"), method=method))

    assert (registration.paused, registration.state.prompt) == (True, True)
    assert await manager.connection.ask("LLEN", queue_key("auto")) == 0
    assert await manager.connection.ask("ZCARD", AGENDA) == 0
    await Agenda(manager.connection, manager.settings).look(
        FetchKeys(SCOPE, registration.uid)
    )
    await perform(engine, registration)
    assert origin.connections == 0

    assert await registration.resume()
    assert (registration.paused, registration.state.prompt) == (False, False)
    assert await manager.connection.ask("LLEN", queue_key("auto")) == 1
    await perform(engine, registration)
    assert registration.result == "success"


async def test_a_fetch_that_is_not_approved_is_aborted(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-DISP-11: refused, with its event."""
    await put(manager, PROMPT)
    registration = await manager.fetch("a", origin.url("/a"))

    assert await registration.abort()

    await perform(engine, registration)
    assert origin.connections == 0
    assert (registration.failure_reason, registration.state.prompt) == ("aborted", 0)
    stream = ScopeKeys(SCOPE).events
    [(_, row)] = await manager.connection.ask("XRANGE", stream, "-", "+")
    assert row[b"delivery"].endswith(b"/backgroundfetchabort")


async def test_always_granting_does_not_approve_what_waits(
    manager: BackgroundFetchManager,
) -> None:
    """BF-DISP-11, BF-SEC-09: a rule is for later fetches."""
    await put(manager, PROMPT)
    registration = await manager.fetch("a", URL)

    await put(manager, ScopePolicy())

    await registration.refresh()
    assert registration.state.prompt
    assert not (await manager.fetch("b", URL)).paused


class _Twice(Connection):
    """Loses the first answer to a registration, and repeats it."""

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name == "register":
            await super().run(name, keys, arguments)
        return await super().run(name, keys, arguments)


async def test_a_repeated_registration_waits_for_approval_as_the_first_did(
    settings: Settings,
) -> None:
    """R23."""
    connection = _Twice(settings.found_redis())
    base = settings.base_url
    manager = BackgroundFetchManager(connection, settings, SCOPE, base)
    await put(manager, PROMPT)

    registration = await manager.fetch("a", URL)

    assert registration.state.prompt
    assert await connection.ask("LLEN", queue_key("auto")) == 0
    await manager.aclose()
    await connection.aclose()


async def test_a_scope_may_require_a_subscriber(
    manager: BackgroundFetchManager, process: Process, clock: Clock
) -> None:
    """BF-FETCH-12, design §7: one that has joined, as an active worker need not run."""
    await put(manager, ScopePolicy(require_active_worker=True))
    before = await manager.connection.ask("KEYS", "*")

    with pytest.raises(TypeError, match="nobody subscribes to the scope") as refused:
        await manager.fetch("a", URL)

    assert isinstance(refused.value, NoActiveWorker)
    assert await manager.connection.ask("KEYS", "*") == before
    await process("mailer")
    assert await manager.fetch("a", URL)
    await clock.age_deliveries("mailer", timedelta(hours=1))  # its process is dead
    assert await manager.fetch("b", URL)
    await manager.subscribers.remove("mailer")
    with pytest.raises(NoActiveWorker):
        await manager.fetch("c", URL)


def test_the_command_line_sets_shows_and_meets_the_permission(bgfetch: Bgfetch) -> None:
    rules = ("--permission", "prompt", "--require-active-worker")
    assert bgfetch("scope", "set", SCOPE, *rules)[0] == 0
    shown = json.loads(bgfetch("scope", "show", SCOPE, "--json")[1])
    assert (shown["permission"], shown["requireActiveWorker"]) == ("prompt", True)
    text = bgfetch("scope", "show", SCOPE)[1]
    assert "permission: prompt\nsubscriber: required\n" in text
    code, _, told = bgfetch("fetch", URL)
    assert code == 1
    assert told.startswith("bgfetch: TypeError: nobody subscribes")

    bgfetch("scope", "set", SCOPE, "--permission", "prompt")
    code, _, told = bgfetch("fetch", URL, "--id", "a")
    assert code == 0
    assert "`bgfetch resume` approves it" in told
    assert "state:       waits for permission\n" in bgfetch("get", "a")[1]
    assert bgfetch("resume", "a")[0] == 0

    bgfetch("scope", "set", SCOPE, "--permission", "denied")
    code, _, told = bgfetch("fetch", URL)
    assert code == 1
    assert told.startswith("bgfetch: NotAllowedError: ")

    code, _, told = bgfetch("scope", "set", SCOPE, "--permission", "maybe")
    assert code == 2
    assert "permission is one of granted, denied, prompt, got 'maybe'" in told
