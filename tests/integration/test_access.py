"""Who may do what at the gateway, and what no page of another site can do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from httpx2 import AsyncClient, BasicAuth

from broker.accounts import (
    Account,
    Role,
    entry,
    new_token,
    password_proof,
    token_proof,
)
from broker.gateway import create_app
from broker.gateway.access import READING, role_of
from broker.gateway.audit import Audit
from broker.gateway.guards import OPEN_PATHS
from broker.gateway.login import MOST_FAILURES
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.commands import Bgfetch
from tests.integration.serving import serving

URL = "https://origin.example/file"
Serve = Callable[..., Awaitable[AsyncClient]]


@pytest.fixture
async def serve(settings: Settings) -> AsyncIterator[Serve]:
    """Return a function that starts a gateway with some settings."""
    async with AsyncExitStack() as stack:

        async def start(**update: Any) -> AsyncClient:
            wanted = settings.model_copy(update=update)
            return await stack.enter_async_context(serving(wanted))

        yield start


def account(name: str, *roles: Role, token: str, scopes: tuple[str, ...]) -> str:
    """An entry for the file of accounts."""
    made = Account(name, frozenset(roles), scopes, token_proof(token))
    return entry(made) + "\n"


def bearing(token: str) -> Mapping[str, str]:
    """Headers that prove an account."""
    return {"Authorization": f"Bearer {token}"}


def rewrite(path: Path, text: str, *, at: int) -> None:
    """Give a file another text and time, so that it is seen to change."""
    path.write_text(text)
    os.utime(path, ns=(at, at))


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    """A file with a viewer and a producer of the scope, and a person who operates."""
    path = tmp_path / "accounts.toml"
    ada = Account("ada", frozenset({Role.OPERATOR}), proof=password_proof("pass"))
    path.write_text(
        account("see", Role.VIEWER, token="viewer-token", scopes=(SCOPE,))
        + account("make", Role.PRODUCER, token="producer-token", scopes=(SCOPE,))
        + entry(ada)
    )
    return path


async def test_without_accounts_everybody_on_this_machine_may_do_everything(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("a", URL)

    answer = await gateway.get(f"/api/v1/scopes/{SCOPE}/fetches/{registration.uid}")

    assert answer.status_code == 200


async def test_only_who_proves_an_account_sees_anything(
    serve: Serve, accounts: Path, manager: BackgroundFetchManager
) -> None:
    registration = await manager.fetch("a", URL)
    path = f"/api/v1/scopes/{SCOPE}/fetches/{registration.uid}"
    client = await serve(accounts=accounts)

    nobody = await client.get(path)
    wrong = await client.get(path, headers=bearing("guess"))
    odd = await client.get(path, headers={"Authorization": "Digest x"})
    viewer = await client.get(path, headers=bearing("viewer-token"))
    person = await client.get(path, auth=BasicAuth("ada", "pass"))
    again = await client.get(path, auth=BasicAuth("ada", "pass"))
    stranger = await client.get(path, auth=BasicAuth("ada", "word"))

    refused = [nobody, wrong, odd, stranger]
    assert [each.status_code for each in refused] == [401] * 4
    assert "Basic" in nobody.headers["www-authenticate"]
    assert [viewer.status_code, person.status_code, again.status_code] == [200] * 3


async def test_an_account_sees_its_scopes_alone(serve: Serve, accounts: Path) -> None:
    client = await serve(accounts=accounts)

    mine = await client.get(
        f"/api/v1/scopes/{SCOPE}/fetches/x", headers=bearing("viewer-token")
    )
    other = await client.get(
        "/api/v1/scopes/other/fetches/x", headers=bearing("viewer-token")
    )

    assert mine.status_code == 404
    assert other.status_code == 403
    assert "'see' is no viewer of scope 'other'" in other.json()["detail"]


@pytest.mark.parametrize("page", ["/fetches", "/events", "/dead"])
async def test_pages_that_read_a_scope_are_for_who_may_see_it(
    serve: Serve, accounts: Path, page: str
) -> None:
    client = await serve(accounts=accounts)
    headers = bearing("viewer-token")

    mine = await client.get(f"{page}?scope={SCOPE}", headers=headers)
    others = await client.get(f"{page}?scope=other", headers=headers)
    every = await client.get(page, headers=headers)

    assert [mine.status_code, others.status_code, every.status_code] == [200, 403, 403]


@pytest.mark.parametrize(
    "path", ["/metrics", "/api/v1/scopes", "/api/v1/processes", "/workers"]
)
async def test_a_scope_that_a_route_does_not_read_opens_nothing(
    serve: Serve, accounts: Path, path: str
) -> None:
    client = await serve(accounts=accounts)

    answer = await client.get(
        path, params={"scope": SCOPE}, headers=bearing("viewer-token")
    )

    assert answer.status_code == 403


async def test_a_filter_reaches_no_further_than_the_scope_that_was_allowed(
    serve: Serve, accounts: Path, settings: Settings
) -> None:
    client = await serve(accounts=accounts)
    async with connect(scope="other", settings=settings) as manager:
        await manager.fetch("hidden", URL, title="Hidden away")

    for query in ("scope:other", "hidden", "scope:other hidden"):
        page = await client.get(
            "/fetches",
            params={"scope": SCOPE, "q": query},
            headers=bearing("viewer-token"),
        )
        assert "Hidden away" not in page.text


async def test_the_file_is_read_again_when_it_changes_and_kept_when_it_is_wrong(
    serve: Serve, accounts: Path
) -> None:
    client = await serve(accounts=accounts)
    path = f"/api/v1/scopes/{SCOPE}/fetches/x"
    new = new_token()

    rewrite(accounts, account("new", Role.VIEWER, token=new, scopes=("*",)), at=1)
    added = await client.get(path, headers=bearing(new))
    removed = await client.get(path, headers=bearing("viewer-token"))
    rewrite(accounts, "[broken", at=2)
    kept = await client.get(path, headers=bearing(new))

    assert [added.status_code, removed.status_code] == [404, 401]
    assert kept.status_code == 404


async def test_guessing_is_slowed_down(serve: Serve, accounts: Path) -> None:
    client = await serve(accounts=accounts)

    answers = [
        await client.get("/api/v1/openapi.json", headers=bearing(f"guess-{number}"))
        for number in range(MOST_FAILURES + 1)
    ]

    assert {each.status_code for each in answers[:-1]} == {401}
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:8780", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[::1", 421),
        ("127.0.0.1", 200),
        ("[::1]:8780", 200),
        ("localhost:8780", 200),
        ("downloads.example", 200),
        ("Downloads.Example.:443", 200),
    ],
)
async def test_only_names_of_its_own_are_answered_to(
    serve: Serve, host: str, status: int
) -> None:
    """A page whose name was bound to this address afterwards reads nothing."""
    client = await serve(hosts=("Downloads.example",))

    answer = await client.get("/api/v1/openapi.json", headers={"Host": host})

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://x"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({}, False),
    ],
)
async def test_a_write_that_another_site_sends_is_refused(
    gateway: AsyncClient, headers: dict[str, str], refused: bool
) -> None:
    answer = await gateway.post("/api/v1/nowhere", headers=headers)

    assert answer.status_code == (403 if refused else 404)
    assert ("another site" in answer.json()["detail"]) is refused


async def test_a_read_only_gateway_refuses_every_write(serve: Serve) -> None:
    client = await serve(read_only=True)

    wrote = await client.delete("/api/v1/nowhere")
    read = await client.get("/api/v1/openapi.json")

    assert (wrote.status_code, read.status_code) == (403, 200)
    assert "read-only" in wrote.json()["detail"]


async def test_writes_are_kept_with_who_sent_them_and_reads_are_not(
    serve: Serve, accounts: Path, manager: BackgroundFetchManager
) -> None:
    client = await serve(accounts=accounts)
    headers = bearing("producer-token")

    await client.get("/api/v1/nowhere", headers=headers)
    await client.post("/api/v1/nowhere?token=s3cret", headers=headers)

    told = await client.get("/api/v1/audit", headers=headers)
    seen = await client.get("/api/v1/audit", auth=BasicAuth("ada", "pass"))
    assert told.status_code == 403
    assert [each["who"] for each in seen.json()["items"]] == ["make"]
    actions = await Audit(lambda: manager.connection).last(10)
    assert [(each.who, each.method, each.path, each.status) for each in actions] == [
        ("make", "POST", "/api/v1/nowhere", 404)
    ]
    assert actions[0].address == "127.0.0.1"
    assert actions[0].at > 0


async def test_every_answer_forbids_to_be_framed_sniffed_or_scripted(
    gateway: AsyncClient,
) -> None:
    for path in ("/api/v1/openapi.json", "/api/v1/nowhere"):
        headers = (await gateway.get(path)).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def routes(app: FastAPI) -> list[RouteContext]:
    """The routes that need an account."""
    return [
        route
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute)
        and not str(route.path).startswith(OPEN_PATHS)
    ]


def test_every_route_names_one_role(settings: Settings) -> None:
    found = routes(create_app(settings))

    assert len(found) > 40
    for route in found:
        asked = [role_of(each.call) for each in route.dependant.dependencies]
        roles = [role for role in asked if role is not None]

        assert len(roles) == 1, route.path
        if not (route.methods or set()) <= READING:
            assert roles != [Role.VIEWER], route.path


async def test_an_account_is_made_by_command(bgfetch: Bgfetch, tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"

    code, out, err = bgfetch(
        "account", "ci", "--role", "producer", "-s", "news-*", "--file", str(file)
    )
    twice, _, told = bgfetch("account", "ci", "--role", "viewer", "--file", str(file))
    second, _, _ = bgfetch("account", "b", "--role", "viewer", "--file", str(file))

    token = err.strip().rpartition(" ")[2]
    assert (code, out, second) == (0, "", 0)
    assert twice == 3
    assert "has an account 'ci' already" in told
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in file.read_text()
    assert token_proof(token) in file.read_text()
