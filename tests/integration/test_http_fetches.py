"""Background fetches over HTTP: registered, found, and what is done to them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

from httpx2 import AsyncClient

from broker.manager import BackgroundFetchManager
from broker.plain import as_plain
from tests.integration.clock import SCOPE
from tests.integration.delivering import Process, begin, read

URL = "https://cdn.example/ep-5.mp3"
FETCHES = f"/api/v1/scopes/{SCOPE}/fetches"


async def test_a_fetch_is_registered_with_all_that_the_idl_knows(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-FETCH-19, BF-FETCH-22: URLs, and requests with their members."""
    post = {
        "url": "/upload",
        "method": "POST",
        "headers": {"X-Kind": "a"},
        "body": {"base64": base64.b64encode(b"\0\1").decode()},
        "referrerPolicy": "no-referrer",
    }

    answer = await gateway.post(
        FETCHES,
        json={
            "id": "ep 5/ü",
            "requests": [URL, post, {"url": URL, "method": "PUT", "body": "text"}],
            "title": "Episode 5",
            "icons": [{"src": "/ep.png"}],
            "downloadTotal": 2**64 - 1,
            "hold": 60.5,
            "priority": "high",
        },
    )

    assert answer.status_code == 201
    shown = answer.json()
    assert answer.headers["location"] == f"{FETCHES}/{shown['uid']}"
    assert (await gateway.get(answer.headers["location"])).json() == shown
    registration = await manager.get("ep 5/ü")
    assert registration is not None
    assert shown == as_plain(registration.state) | {"waiting": ""}
    assert (shown["uploadTotal"], shown["downloadTotal"]) == (6, 2**64 - 1)
    one, two, three = [each.request for each in await registration.match_all()]
    assert one.url == URL
    assert (two.url, two.body) == ("http://localhost:8780/upload", b"\0\1")
    assert (two.header_list, two.referrer_policy) == ((("X-Kind", "a"),), "no-referrer")
    assert three.body == b"text"


async def test_what_fetch_raises_is_told_with_status_name_and_fix(
    gateway: AsyncClient,
) -> None:
    """BF-FETCH-01, BF-FETCH-02, BF-FETCH-13: nothing is registered."""
    await gateway.post(FETCHES, json={"id": "x", "requests": URL})

    twice = await gateway.post(FETCHES, json={"id": "x", "requests": URL})
    nothing = await gateway.post(FETCHES, json={"id": "y", "requests": []})
    secret = await gateway.post(FETCHES, json={"id": "y", "requests": "https://u:p@h/"})
    slip = await gateway.post(
        FETCHES, json={"id": "y", "requests": URL, "download_total": 5}
    )
    noise = await gateway.post(
        FETCHES, content=b"{", headers={"Content-Type": "application/json"}
    )

    assert (twice.status_code, twice.json()["type"], twice.json()["name"]) == (
        409,
        "/problems/duplicate-fetch",
        "TypeError",
    )
    assert (nothing.status_code, secret.status_code) == (422, 422)
    assert slip.json()["errors"][0]["where"] == "download_total"
    assert (noise.status_code, noise.json()["type"]) == (422, "/problems/wrong-form")
    ids = await gateway.get(f"/api/v1/scopes/{SCOPE}/ids")
    assert ids.json() == {"ids": ["x"]}


async def test_a_fetch_is_paused_resumed_clicked_and_aborted(
    gateway: AsyncClient, process: Process
) -> None:
    """BF-DISP-07, BF-DISP-08, BF-DISP-09: in every state of it."""
    made = await gateway.post(FETCHES, json={"id": "x", "requests": URL})
    uid = made.json()["uid"]

    paused = await gateway.post(f"{FETCHES}/{uid}/pause")
    resumed = await gateway.post(f"{FETCHES}/{uid}/resume")
    first = await gateway.post(f"{FETCHES}/{uid}/click")
    aborted = await gateway.post(f"{FETCHES}/{uid}/abort")
    again = await gateway.post(f"{FETCHES}/{uid}/abort")
    second = await gateway.post(f"{FETCHES}/{uid}/click")
    late = await gateway.post(f"{FETCHES}/{uid}/pause")

    assert [paused.json()["paused"], resumed.json()["paused"]] == [True, False]
    assert first.status_code == second.status_code == 202
    assert first.json() == {"id": "x", "uid": uid, "event": "backgroundfetchclick.1"}
    assert second.json()["event"] == "backgroundfetchclick.2"
    assert aborted.json() == {"id": "x", "uid": uid, "aborted": True}
    assert again.json()["aborted"] is False
    assert (late.status_code, late.json()["name"]) == (409, "InvalidStateError")


async def test_what_became_of_an_event_is_told_and_can_be_waited_for(
    gateway: AsyncClient, process: Process
) -> None:
    subscription = await process()
    made = await gateway.post(FETCHES, json={"id": "x", "requests": URL})
    at = f"{FETCHES}/{made.json()['uid']}"
    active = await gateway.get(f"{at}/settled")
    click = (await gateway.post(f"{at}/click")).json()["event"]
    pending = await gateway.get(f"{at}/events/{click}")

    await gateway.post(f"{at}/abort")
    for _ in range(2):
        [delivery] = await read(subscription, 1)
        await subscription.ack(await begin(subscription, delivery))
    ended = await gateway.get(f"{at}/settled?wait=30")
    clicked = await gateway.get(f"{at}/events/{click}?wait=30")
    unknown = await gateway.get(f"{at}/events/backgroundfetchclick.9")

    assert active.json() == {"event": "", "settled": False, "outcomes": {}}
    assert pending.json() == {"event": click, "settled": False, "outcomes": {}}
    assert ended.json() == {
        "event": "backgroundfetchabort",
        "settled": True,
        "outcomes": {"a": "acked"},
    }
    assert clicked.json()["outcomes"] == {"a": "acked"}
    assert unknown.status_code == 404


async def test_records_come_in_pages_and_are_found_by_request(
    gateway: AsyncClient,
) -> None:
    """BF-FETCH-06: in the order given, duplicates apart."""
    urls = [f"https://cdn.example/{at}?q" for at in range(5)]
    made = await gateway.post(
        FETCHES, json={"id": "x", "requests": [*urls, {"url": urls[0]}]}
    )
    at = f"{FETCHES}/{made.json()['uid']}"

    first = (await gateway.get(f"{at}/records?limit=4")).json()
    rest = (await gateway.get(f"{at}/records?cursor={first['cursor']}")).json()
    one = (await gateway.get(f"{at}/records/4")).json()
    beyond = await gateway.get(f"{at}/records/6")
    url = "url=https://cdn.example/0"
    found = await gateway.get(f"{at}/match-all?{url}&ignoreSearch=true")
    none = await gateway.get(f"{at}/match?{url}")

    rows = first["items"] + rest["items"]
    assert [row["index"] for row in rows] == list(range(6))
    assert [row["url"] for row in rows] == [*urls, urls[0]]
    assert rest["cursor"] is None
    assert (one["url"], one["request"]["mode"], one["response"]) == (
        urls[4],
        "cors",
        None,
    )
    assert beyond.status_code == 404
    assert [row["index"] for row in found.json()["records"]] == [0, 5]
    assert none.json() == {"record": None}


async def test_requests_that_cannot_be_answered_are_told_why(
    gateway: AsyncClient,
) -> None:
    """RFC 9110: 405, 406, 413 and 415, as problems too."""
    html = await gateway.get(
        f"/api/v1/scopes/{SCOPE}/ids", headers={"Accept": "text/html, */*;q=0"}
    )
    text = await gateway.post(
        FETCHES, content=b"{}", headers={"Content-Type": "text/plain"}
    )
    put = await gateway.put(FETCHES, json={})
    body = json.dumps({"id": "x", "requests": URL, "title": "x" * 33 * 1024**2})

    async def chunked() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 2**16):
            yield body[at : at + 2**16].encode()

    long = await gateway.post(
        FETCHES, content=chunked(), headers={"Content-Type": "application/json"}
    )

    answers = [html, text, put, long]
    assert [each.status_code for each in answers] == [406, 415, 405, 413]
    for each in answers:
        assert each.headers["content-type"] == "application/problem+json"
    assert put.headers["allow"] == "GET, POST"
    for each in (html, text, long):
        kind = await gateway.get(each.json()["type"])
        assert kind.json()["status"] == each.status_code
        assert kind.json()["title"] == each.json()["title"]
