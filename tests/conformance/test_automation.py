"""§ Automation: WebDriver's command that clicks a background fetch."""

from __future__ import annotations

from httpx2 import AsyncClient

from tests.conformance.stage import Stage
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process, read
from tests.integration.webdriver import clicked, of_webdriver


async def test_the_newest_fetch_with_an_id_is_clicked_ended_or_not(
    stage: Stage, gateway: AsyncClient, process: Process
) -> None:
    """BF-AUTO-01, BF-AUTO-02: a session is a scope; ids may have any characters."""
    subscription = await process()
    stage.origin.add("/a", b"a")
    old = await stage.fetch("/a", id="a/b ü")
    await stage.perform(old)

    ended = await gateway.post(clicked(SCOPE, "a/b ü"), json={})
    new = await stage.fetch("/a", id="a/b ü")
    active = await gateway.post(clicked(SCOPE, "a/b ü"), json={})

    for answer in (ended, active):
        assert (answer.status_code, answer.json()) == (200, {"value": None})
    told = [(each.message.type, each.uid) for each in await read(subscription)]
    assert told == [
        ("backgroundfetchsuccess", old.uid),
        ("backgroundfetchclick", old.uid),
        ("backgroundfetchclick", new.uid),
    ]


async def test_a_click_on_nothing_is_an_error_of_webdriver(
    stage: Stage, gateway: AsyncClient
) -> None:
    """BF-AUTO-02: there is no registration, no fetch with this id, no session."""
    await stage.fetch("/a", id="x")

    no_scope = await gateway.post(clicked("nobody", "x"), json={})
    no_fetch = await gateway.post(clicked(SCOPE, "y"), json={})
    no_session = await gateway.post(clicked("-", "x"), json={})

    assert of_webdriver(no_scope) == (400, "invalid service worker state")
    assert of_webdriver(no_fetch) == (404, "background fetch not found")
    assert of_webdriver(no_session) == (404, "invalid session id")
