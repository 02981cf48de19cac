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
