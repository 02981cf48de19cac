"""Webhooks: signed, guarded, and acknowledged, failed and redelivered like handlers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from schemas.errors import ConfigError, ForbiddenAddress
from tests.integration.clock import SCOPE
from tests.integration.outcomes import Outcomes, running
from workers.demo.origin import Origin, Seen
from workers.events import BackgroundFetchEvent
from workers.exchange import TransferError
from workers.webhooks import Webhook

KEYS = (b"k" * 24, b"K" * 64)
SECRETS = [f"whsec_{base64.b64encode(key).decode()}" for key in KEYS]
URL = "https://cdn.example/1"


@pytest.fixture
async def endpoint() -> AsyncIterator[Origin]:
    async with Origin() as running:
        yield running


@asynccontextmanager
async def posting(
    url: str, settings: Settings, secrets: list[str] = SECRETS
) -> AsyncIterator[Outcomes]:
    async with (
        Webhook(SCOPE, url, secrets=secrets, settings=settings) as webhook,
        running(webhook.service_worker, settings) as outcomes,
    ):
        yield outcomes


def expected_signature(key: bytes, seen: Seen) -> str:
    """The signature as the Standard Webhooks specification tells, by hand."""
    id, at = seen.headers["webhook-id"], seen.headers["webhook-timestamp"]
    signed = f"{id}.{at}.".encode() + seen.body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


async def test_an_event_is_posted_signed_and_acknowledged_by_2xx(
    manager: BackgroundFetchManager, settings: Settings, endpoint: Origin
) -> None:
    endpoint.add("/hook", b"", status=204)
    registration = await manager.fetch("épisode", URL, title="Ep")
    async with posting(endpoint.url("/hook"), settings) as outcomes:
        await registration.abort()
        acked = await outcomes.until("acked")
        settled = await registration.settled()

    [seen] = endpoint.log
    message = json.loads(seen.body)
    shown = message["data"]["registration"]
    assert acked == ("acked", "backgroundfetchabort", 1)
    assert settled == {"webhook": "acked"}
    assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")
    assert message["type"] == "backgroundfetchabort"
    assert (shown["id"], shown["failureReason"]) == ("épisode", "aborted")
    assert abs(int(seen.headers["webhook-timestamp"]) - time.time()) < 300
    assert seen.headers["webhook-signature"].split() == [
        expected_signature(key, seen) for key in KEYS
    ]


async def test_another_answer_fails_the_delivery_and_it_comes_again_under_its_id(
    manager: BackgroundFetchManager, settings: Settings, endpoint: Origin
) -> None:
    endpoint.add("/hook", b"", status=204, fail_first=[(500, {})])
    async with posting(endpoint.url("/hook"), settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        failed = await outcomes.until("failed")
        acked = await outcomes.until("acked")

    first, second = endpoint.log
    assert (failed[2], acked[2]) == (1, 2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


async def test_a_redirect_is_not_followed_and_is_no_acknowledgement(
    manager: BackgroundFetchManager, settings: Settings, endpoint: Origin
) -> None:
    endpoint.add("/hook", b"", status=307, headers={"Location": "/elsewhere"})
    endpoint.add("/elsewhere", b"", status=204)
    async with posting(endpoint.url("/hook"), settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("failed")

    assert {seen.path for seen in endpoint.log} == {"/hook"}


async def test_an_endpoint_that_never_acknowledges_ends_as_a_dead_letter(
    manager: BackgroundFetchManager, settings: Settings, endpoint: Origin
) -> None:
    endpoint.add("/hook", b"", status=410)
    settings = settings.model_copy(update={"max_deliveries": 2})
    async with posting(endpoint.url("/hook"), settings) as outcomes:
        await (await manager.fetch("x", URL)).abort()
        dead = await outcomes.until("dead")

    assert dead == ("dead", "backgroundfetchabort", 2)


def test_a_forbidden_address_is_refused_at_once(settings: Settings) -> None:
    """Guarantee 8; the address that is dialled has its test in test_guard."""
    strict = settings.model_copy(update={"allow_networks": AddressPolicy()})

    with pytest.raises(ForbiddenAddress, match=r"169\.254\.169\.254"):
        Webhook(SCOPE, "http://169.254.169.254/", secrets=SECRETS, settings=strict)


async def test_no_event_is_posted_to_the_redis_that_brings_it(
    manager: BackgroundFetchManager, settings: Settings, endpoint: Origin
) -> None:
    """Faults 33."""
    registration = await manager.fetch("x", URL)
    port = endpoint.url("").rpartition(":")[2]
    redis_url = f"redis://127.0.0.1:{port}"
    own = settings.model_copy(update={"redis_url": redis_url})
    event = BackgroundFetchEvent(
        "backgroundfetchclick", registration=registration, delivery_id="d"
    )

    async with Webhook(
        SCOPE, endpoint.url("/hook"), secrets=SECRETS, settings=own
    ) as webhook:
        with pytest.raises(TransferError, match="a server of this worker's own"):
            await webhook.post(event)

    assert endpoint.connections == 0


@pytest.mark.parametrize(
    "secrets", [[], [""], ["whsec_c2hvcnQ="], ["whsec_!!!"], ["whsec_" + "A" * 100]]
)
def test_a_secret_of_the_wrong_form_is_refused_with_the_fix_and_not_shown(
    secrets: list[str], settings: Settings
) -> None:
    with pytest.raises(ConfigError, match="secret") as raised:
        Webhook(SCOPE, "https://h.example/", secrets=secrets, settings=settings)

    assert not any(secret and secret in str(raised.value) for secret in secrets)
