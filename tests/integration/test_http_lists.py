"""Lists, counts, scopes and their rules over HTTP."""

from __future__ import annotations

from httpx2 import AsyncClient

from broker.manager import BackgroundFetchManager
from tests.integration.clock import SCOPE

URL = "https://cdn.example/ep-5.mp3"
FETCHES = f"/api/v1/scopes/{SCOPE}/fetches"


async def test_fetches_are_listed_a_page_at_a_time_by_filter(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-10: the newest first, ended ones included."""
    made = [
        await manager.fetch(f"ep-{number}", URL, title=f"E{number}")
        for number in range(5)
    ]
    await made[-1].abort()

    first = (await gateway.get(f"{FETCHES}?limit=3")).json()
    rest = (await gateway.get(f"{FETCHES}?cursor={first['cursor']}")).json()
    aborted = (await gateway.get(f"{FETCHES}?state=aborted")).json()
    found = (await gateway.get("/api/v1/fetches?filter=id:*-2 host:cdn.example")).json()
    elsewhere = (await gateway.get("/api/v1/scopes/other/fetches")).json()
    wrong = await gateway.get(f"{FETCHES}?filter=state:wrong")
    counts = (await gateway.get(f"/api/v1/counts?scope={SCOPE}")).json()

    listed = [each["id"] for each in first["items"] + rest["items"]]
    assert listed == [f"ep-{number}" for number in (4, 3, 2, 1, 0)]
    assert rest["cursor"] is None
    assert [each["failureReason"] for each in aborted["items"]] == ["aborted"]
    assert [each["title"] for each in found["items"]] == ["E2"]
    assert elsewhere == {"items": [], "cursor": None}
    assert (wrong.status_code, wrong.json()["type"]) == (
        422,
        "/problems/invalid-filter",
    )
    assert (counts["active"], counts["aborted"]) == (4, 1)


async def test_a_fetch_is_found_by_any_id(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-GET-01: `get(id)` finds active ones; without a state the newest is found."""
    odd = "a/b?c#d&e ü"
    ended = await manager.fetch(odd, URL)
    await ended.abort()

    newest = (await gateway.get(FETCHES, params={"id": odd})).json()
    active = (await gateway.get(FETCHES, params={"id": odd, "state": "active"})).json()
    again = await manager.fetch(odd, URL)
    both = (await gateway.get(FETCHES, params={"id": odd, "state": "active"})).json()
    empty = await gateway.get(FETCHES, params={"id": ""})

    assert [each["uid"] for each in newest["items"]] == [ended.uid]
    assert active["items"] == []
    assert [each["uid"] for each in both["items"]] == [again.uid]
    assert empty.status_code == 422


async def test_the_rules_of_a_scope_are_set_and_told(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-FETCH-10, BF-FETCH-11: the permission among them."""
    at = f"/api/v1/scopes/{SCOPE}"
    first = (await gateway.get(f"{at}/permission")).json()

    told = await gateway.put(
        f"{at}/rules", json={"permission": "denied", "allow": ["https://CDN.example"]}
    )
    refused = await gateway.post(FETCHES, json={"id": "x", "requests": URL})
    wrong = await gateway.put(f"{at}/rules", json={"allow": ["a b"]})

    assert first == {"state": "granted"}
    assert (await gateway.get(f"{at}/permission")).json() == {"state": "denied"}
    assert told.json()["allow"] == ["https://cdn.example"]
    assert (await gateway.get(f"{at}/rules")).json() == told.json()
    assert (refused.status_code, refused.json()["name"]) == (403, "NotAllowedError")
    assert wrong.status_code == 422


async def test_a_scope_is_listed_and_removed(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-LIFE-02."""
    await manager.fetch("x", URL)

    before = (await gateway.get("/api/v1/scopes")).json()
    removed = await gateway.delete(f"/api/v1/scopes/{SCOPE}")
    again = await gateway.delete(f"/api/v1/scopes/{SCOPE}")

    [scope] = before["items"]
    assert (scope["scope"], scope["active"], scope["removing"]) == (SCOPE, 1, False)
    assert (removed.status_code, again.status_code) == (204, 404)
    assert (await gateway.get("/api/v1/scopes")).json() == {"items": []}


async def test_all_that_match_are_acted_on(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """With the same key nothing is done twice (R23)."""
    for number in range(3):
        await manager.fetch(f"ep-{number}", URL)
    key = {"Idempotency-Key": "all"}
    order = {"action": "abort", "filter": "id:ep-*"}

    first = await gateway.post(f"{FETCHES}/actions", json=order, headers=key)
    again = await gateway.post(f"{FETCHES}/actions", json=order, headers=key)
    everywhere = await gateway.post(
        "/api/v1/fetches/actions", json={"action": "retry", "filter": "id:ep-0"}
    )
    elsewhere = await gateway.post(
        f"{FETCHES}/actions", json={"action": "abort", "filter": "scope:other"}
    )

    numbers = {"matched": 3, "done": 3, "skipped": 0, "failed": 0, "told": []}
    assert first.json() == again.json() == numbers
    assert everywhere.json()["done"] == 1
    assert await manager.get_ids() == ["ep-0"]
    assert elsewhere.status_code == 422


async def test_a_fetch_is_retried_and_forgotten(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-DISP-03: an active one is not forgotten, and the answer has the fix."""
    old = await manager.fetch("x", URL)
    timeline = await gateway.get(f"{FETCHES}/{old.uid}/timeline")
    active = await gateway.delete(f"{FETCHES}/{old.uid}")
    await old.abort()

    new = await gateway.post(f"{FETCHES}/{old.uid}/retry")
    forgotten = await gateway.delete(f"{FETCHES}/{old.uid}?force=true")
    gone = await gateway.get(f"{FETCHES}/{old.uid}")

    assert (active.status_code, "abort it first" in active.json()["detail"]) == (
        409,
        True,
    )
    assert [each["what"] for each in timeline.json()["items"]] == ["created"]
    assert (new.status_code, new.json()["id"]) == (201, "x")
    assert new.headers["location"] == f"{FETCHES}/{new.json()['uid']}"
    assert (forgotten.status_code, gone.status_code) == (204, 404)
