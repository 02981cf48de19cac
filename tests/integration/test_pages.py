"""The dashboard's pages as a browser without JavaScript has them."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser

import pytest
from httpx2 import AsyncClient
from typing_extensions import override

from broker.dead_letters import DeadLetters
from broker.icons import Icons
from broker.manager import BackgroundFetchManager
from broker.origins import OriginReport, Origins
from broker.processes import Process as Process_
from broker.processes import Processes, Role
from broker.settings import Settings
from broker.standing import Standing
from broker.subscribers import Subscribers
from schemas.fetches import FailureReason
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import Process, begin, read
from tests.integration.test_dead_letters import die
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

URL = "https://origin.example/file"
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"


def address_of(uid: str) -> str:
    return f"/fetches/{SCOPE}/{uid}"


def tags_of(page: str) -> list[tuple[str, dict[str, str]]]:
    """Every element with its attributes, as a browser reads them."""
    found: list[tuple[str, dict[str, str]]] = []

    class Reader(HTMLParser):
        @override
        def handle_starttag(
            self, tag: str, attrs: list[tuple[str, str | None]]
        ) -> None:
            found.append((tag, {name: value or "" for name, value in attrs}))

    Reader().feed(page)
    return found


async def test_a_fetch_is_listed_with_its_title_and_an_unknown_total(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-04, BF-DISP-06: without a total the bar is indeterminate."""
    registration = await manager.fetch("ep-5", URL, title="Episode 5")

    start = await gateway.get("/")
    page = await gateway.get(start.headers["location"])

    assert (start.status_code, page.status_code) == (303, 200)
    assert f'href="{address_of(registration.uid)}">Episode 5</a>' in page.text
    assert '<progress aria-label="Progress of Episode 5"></progress>' in page.text


async def test_a_page_shows_the_owning_scopes_origin_records_and_commands(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-01: the origin of the scope is shown whatever the title says."""
    registration = await manager.fetch("ep 5", [URL, f"{URL}?2"], download_total=10)

    page = await gateway.get(address_of(registration.uid))

    assert "<strong>http://localhost:8780</strong>" in page.text
    assert page.text.count('href="https://origin.example/file') == 2
    assert "bgfetch get 'ep 5' --scope podcasts" in unescape(page.text)
    assert 'max="100" value="0"' in page.text


async def test_nothing_that_a_producer_says_becomes_markup(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-04: titles, ids, URLs and icons are text, wherever they are shown."""
    registration = await manager.fetch(
        HOSTILE, f"{URL}?{HOSTILE}", title=HOSTILE, icons=[{"src": HOSTILE}]
    )
    await manager.fetch("no title " + HOSTILE, URL)

    address = address_of(registration.uid)
    for page in ("/fetches", address, f"{address}/abort", f"/fetches?q={HOSTILE}"):
        shown = await gateway.get(page)
        assert shown.status_code < 500
        tags = tags_of(shown.text)
        images = [attributes["src"] for tag, attributes in tags if tag == "img"]
        assert all(src == f"{address}/icon" for src in images)
        for tag, attributes in tags:
            assert not any(name.startswith("on") for name in attributes)
            assert "style" not in attributes
            assert tag != "script" or attributes["src"].startswith("/static/")
        policy = shown.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy


async def test_forms_pause_resume_and_abort_and_go_back_to_the_page(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-07, BF-DISP-08: each act is a form, and aborting asks first."""
    registration = await manager.fetch("ep-5", URL)
    address = address_of(registration.uid)

    for act, paused in (("pause", True), ("resume", False)):
        answer = await gateway.post(f"{address}/{act}")
        await registration.refresh()
        assert (answer.status_code, answer.headers["location"]) == (303, address)
        assert registration.paused is paused
    asked = await gateway.get(f"{address}/abort")
    await gateway.post(f"{address}/abort")
    await registration.refresh()

    assert f'action="{address}/abort"' in asked.text
    assert registration.failure_reason is FailureReason.ABORTED
    assert "has ended already" in (await gateway.get(f"{address}/abort")).text


async def test_what_failed_is_retried_as_a_new_fetch(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL, title="Episode 5")
    active = await gateway.get("/fetches")
    await registration.abort()
    ended = await gateway.get("/fetches")

    answer = await gateway.post(f"{address_of(registration.uid)}/retry")
    again = await manager.get("ep-5")
    twice = await gateway.post(f"{address_of(registration.uid)}/retry")

    assert again is not None
    assert answer.headers["location"] == address_of(again.uid)
    assert ("Retry Episode 5" in active.text, "Retry Episode 5" in ended.text) == (
        False,
        True,
    )
    assert twice.status_code == 409


async def test_pausing_is_offered_only_where_it_is_possible(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-08: one request that is not a GET, and nothing can be paused."""
    from broker import Request

    registration = await manager.fetch("up", Request(URL, method="POST", body=b"x"))

    page = await gateway.get("/fetches")
    answer = await gateway.post(f"{address_of(registration.uid)}/pause")

    assert "Pause up" not in page.text
    assert "Abort up" in page.text
    assert answer.status_code == 409
    assert "text/html" in answer.headers["content-type"]


async def test_a_click_shows_the_window_that_a_listener_opened_as_a_link(
    gateway: AsyncClient, manager: BackgroundFetchManager, process: Process
) -> None:
    """BF-DISP-09, BF-CLICK-01: while it runs and after it; no address can forge it."""
    await process()
    registration = await manager.fetch("ep-5", URL)
    address = address_of(registration.uid)

    clicked = await gateway.post(f"{address}/click")
    event = "backgroundfetchclick.1"
    await registration.open_window(event, "https://podcasts.example/latest")
    shown = await gateway.get(clicked.headers["location"])
    await registration.abort()
    again = await gateway.post(f"{address}/click")
    hostile = await gateway.get(f"{address}?clicked=https://evil.example/")

    assert clicked.headers["location"] == f"{address}?clicked={event}#window"
    assert 'href="https://podcasts.example/latest"' in shown.text
    assert again.headers["location"].endswith("click.2#window")
    assert 'href="https://evil.example' not in hostile.text


async def test_events_are_shown_with_how_far_each_subscriber_is(
    gateway: AsyncClient, manager: BackgroundFetchManager, process: Process
) -> None:
    subscription = await process("mirror")
    registration = await manager.fetch("ep-5", URL)
    await registration.abort()
    [delivery] = await read(subscription)
    await begin(subscription, delivery)

    page = await gateway.get(address_of(registration.uid))

    assert re.search(r"abort</th>.*mirror.*held by ", page.text, re.DOTALL)
    assert re.search(r"<strong>created</strong>.*1 request", page.text, re.DOTALL)
    assert re.search(r"<strong>ended</strong>.*aborted", page.text, re.DOTALL)


async def test_a_finished_record_shows_status_validator_and_digest(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    origin: Origin,
    engine: Engine,
) -> None:
    origin.add("/file", b"x" * 1000, etag='"v1"')
    registration = await manager.fetch("ep-5", origin.url("/file"), title="Episode 5")
    await perform(engine, registration)

    page = await gateway.get(address_of(registration.uid))

    assert "<td>200</td>" in page.text
    assert "1000 bytes" in page.text
    assert "&#34;v1&#34;" in page.text
    assert "succeeded" in page.text


@pytest.mark.parametrize("address", ["/fetches/podcasts/nothing", "/fetches/-/x"])
async def test_what_is_not_there_is_told_on_a_page(
    gateway: AsyncClient, address: str
) -> None:
    answer = await gateway.get(address)

    assert answer.status_code in (404, 422)
    assert "<h1>" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_page_of_another_origin_cannot_write(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL)
    foreign = {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}

    for headers in foreign:
        answer = await gateway.post(
            f"{address_of(registration.uid)}/abort", headers=headers
        )
        assert answer.status_code == 403
    await registration.refresh()

    assert registration.failure_reason is FailureReason.NONE


async def test_static_files_are_kept_by_browsers_under_their_content(
    gateway: AsyncClient,
) -> None:
    page = await gateway.get("/fetches")
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)

    assert len(addresses) >= 4
    for address in addresses:
        answer = await gateway.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


async def test_subscribers_may_come_later(
    gateway: AsyncClient, manager: BackgroundFetchManager, subscribers: Subscribers
) -> None:
    """R12: an event without subscribers waits for the first."""
    registration = await manager.fetch("ep-5", URL)
    await registration.abort()

    page = await gateway.get(address_of(registration.uid))

    assert await subscribers.names() == []
    assert "nobody has subscribed yet" in page.text


async def test_tabs_filters_and_pages_are_in_the_address(
    gateway: AsyncClient, manager: BackgroundFetchManager, settings: Settings
) -> None:
    for number in range(27):
        await manager.fetch(f"ep-{number}", URL, title=f"Episode {number}")
    await (await manager.fetch("gone", URL)).abort()
    icons = Icons(manager.connection, settings)
    await icons.body(f"{URL}.png")  # a fetch of our own, which is not listed
    await icons.aclose()

    first = await gateway.get("/fetches?state=active&scope=podcasts")
    [older] = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = await gateway.get(unescape(older))
    found = await gateway.get("/fetches", params={"q": 'id:ep-1* "episode 12"'})
    wrong = await gateway.get("/fetches", params={"q": "color:red"})

    assert rows_of(first.text)[:2] == ["Episode 26", "Episode 25"]
    assert rows_of(second.text) == ["Episode 1", "Episode 0"]
    assert rows_of(found.text) == ["Episode 12"]
    assert re.search(r"All <span[^>]*>28<.*Active <span[^>]*>27<", first.text, re.S)
    assert "1 fetch on this page of 28 looked at" in found.text
    assert wrong.status_code == 422
    assert "there is no &#39;color&#39; to ask for" in wrong.text


async def test_rows_are_shown_again_with_their_speed_and_of_one_scope_only(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL, title="Episode 5")
    name = f"{SCOPE}/{registration.uid}-0-1"

    rows = await gateway.get("/fetches/rows", params={"of": [name, "nonsense"]})
    others = await gateway.get("/fetches/rows", params={"of": name, "scope": "other"})

    assert rows_of(rows.text) == ["Episode 5"]
    assert rows.text.count("<hx-partial") == 2
    assert rows_of(others.text) == []


def rows_of(page: str) -> list[str]:
    """The names of the fetches that a page lists, in order."""
    return re.findall(r'<h2><a href="/fetches/[^"]+">([^<]+)</a>', page)


async def test_subscribers_are_paused_and_resumed(
    gateway: AsyncClient, subscribers: Subscribers, process: Process
) -> None:
    await process("mirror")

    shown = await gateway.get("/events")
    await gateway.post(f"/events/{SCOPE}/mirror/pause")
    [paused] = await subscribers.look()
    await gateway.post(f"/events/{SCOPE}/mirror/resume")
    [resumed] = await subscribers.look()
    unknown = await gateway.post(f"/events/{SCOPE}/nobody/pause")

    assert "mirror" in shown.text
    assert (paused.state, resumed.state) == (Standing.PAUSED, Standing.ACTIVE)
    assert unknown.status_code == 404


async def test_dead_letters_are_filtered_replayed_and_purged(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    settings: Settings,
    process: Process,
    clock: Clock,
) -> None:
    """R21: one by its button, the others all at once after a question."""
    subscription = await process("mirror")
    for number in range(3):
        await (await manager.fetch(f"ep-{number}", URL)).abort()
    for delivery in await read(subscription):
        await die(subscription, clock, delivery)
    letters = DeadLetters(manager.connection, settings, SCOPE)
    [first, *_] = await letters.find()

    fetch = await gateway.get(address_of(first.uid))
    shown = await gateway.get("/dead", params={"type": "abort", "id": "ep-1"})
    hostile = [tag for tag, _ in tags_of(shown.text) if tag in ("img", "script")]
    await gateway.post("/dead/replay", data={"delivery": first.delivery_id})
    left = await letters.find()
    sure = await gateway.get("/dead/purge?subscriber=mirror")
    await gateway.post("/dead/purge?subscriber=mirror")

    assert re.search(r"mirror.*dead letter</a>", fetch.text, re.DOTALL)
    assert shown.text.count(">ep-") == 1
    assert hostile == ["script", "script"]
    assert len(left) == 2
    assert "Purge 2 dead letters?" in sure.text
    assert await letters.find() == []


async def test_trouble_is_shown_while_there_is_any(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.gateway.pages.trouble.FRESH_SECONDS", 0)
    calm = await gateway.get("/queues")
    registration = await manager.fetch("ep-5", URL)

    waiting = await gateway.get("/fetches")
    process = Process_(Role.WORKER, "host:1:aa")
    await Processes(manager.connection).beat(process, timedelta(seconds=10))
    working = await gateway.get("/workers")

    assert registration.result == ""
    assert 'class="troubles"' not in calm.text
    assert "No worker is alive, and 1 job waits" in waiting.text
    assert 'class="troubles"' not in working.text
    assert "host:1:aa" in working.text


async def test_all_that_match_are_retried_after_a_question(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """Not only those on this page; the token of the question makes it once."""
    for number in range(27):
        await (await manager.fetch(f"ep-{number}", URL)).abort()
    await (await manager.fetch("other", URL)).abort()

    listed = await gateway.get("/fetches?state=aborted&q=id:ep-*")
    [address] = re.findall(r'href="(/bulk/retry[^"]+)"', listed.text)
    asked = await gateway.get(unescape(address))
    [token] = re.findall(r'name="token" value="(\w+)"', asked.text)
    done = await gateway.post(unescape(address), data={"token": token})
    again = await gateway.post(unescape(address), data={"token": token})
    active = await gateway.get("/fetches?state=active")

    assert "Retry all matching…" in listed.text
    assert "state:aborted id:ep-*" in asked.text
    for answer in (done, again):
        assert re.search(r"done</dt><dd[^>]*>27<", answer.text)
    assert "Pause all 27…" in active.text


async def test_a_fetch_whose_host_is_left_alone_says_so(
    gateway: AsyncClient, manager: BackgroundFetchManager, settings: Settings
) -> None:
    """BF-DISP-02: it waits, and nothing looks as if it moved."""
    await manager.fetch("ep-5", URL, title="Episode 5")
    origins = Origins(manager.connection, settings)
    pause, complaint = timedelta(minutes=9), "status 503"
    await origins.renew(
        [OriginReport("https://origin.example", 0, 1, 0, 0, False, complaint, pause)]
    )

    page = await gateway.get("/fetches")

    assert re.search(r"https://origin.example is left alone for [89] min", page.text)
    assert 'data-look="waiting"' in page.text
