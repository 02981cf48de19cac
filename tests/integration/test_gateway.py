"""The gateway itself: how it answers, how it tells errors, how it ends."""

from __future__ import annotations

from httpx2 import AsyncClient

from broker.gateway.gateway import MOST_MANAGERS, Gateway
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE

URL = "https://origin.example/file"


async def test_a_fetch_is_shown_with_the_names_of_the_idl(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("ep-5", URL, title="Episode 5")

    answer = await gateway.get(f"/api/v1/scopes/{SCOPE}/fetches/{registration.uid}")

    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["id"], shown["title"]) == ("ep-5", "Episode 5")
    assert (shown["failureReason"], shown["recordsAvailable"]) == ("", True)


async def test_what_is_not_there_and_what_cannot_be_are_problems(
    gateway: AsyncClient,
) -> None:
    missing = await gateway.get(f"/api/v1/scopes/{SCOPE}/fetches/nothing")
    wrong = await gateway.get("/api/v1/scopes/-/fetches/nothing")
    nowhere = await gateway.get("/api/v1/nowhere")

    for answer, status in ((missing, 404), (wrong, 422), (nowhere, 404)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert "'nothing'" in missing.json()["detail"]
    assert wrong.json()["type"] == "/problems/invalid-name"
    assert wrong.json()["name"] == "TypeError"


async def test_managers_of_idle_scopes_are_closed_in_time(settings: Settings) -> None:
    gateway = Gateway(settings)
    await gateway.start()
    async with gateway.manager("used") as used:
        for number in range(2 * MOST_MANAGERS):
            async with gateway.manager(f"scope-{number}"):
                pass
        async with gateway.manager("used") as again:
            assert again is used

    assert len(gateway._managers) == MOST_MANAGERS
    await gateway.aclose()


async def test_requests_about_new_scopes_open_no_connections(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    async def use(scope: str) -> None:
        at = f"/api/v1/scopes/{scope}"
        form = {"id": "x", "requests": URL}
        made = await gateway.post(f"{at}/fetches", json=form)
        uid = made.json()["uid"]
        for path in ("", "/records", "/records/0", "/timeline"):
            answer = await gateway.get(f"{at}/fetches/{uid}{path}")
            assert answer.status_code == 200
        assert (await gateway.get(f"{at}/fetches?id=x")).status_code == 200
        await gateway.post(f"{at}/fetches/{uid}/click")
        await gateway.post(f"{at}/fetches/{uid}/abort")

    async def connections() -> int:
        info: dict[str, int] = await manager.connection.redis.info("clients")
        return info["connected_clients"]

    await use("first")
    before = await connections()

    for number in range(10):
        await use(f"scope-{number}")

    assert await connections() == before
