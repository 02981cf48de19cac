"""Webhooks: a subscriber whose handler is somebody's HTTP endpoint.

Each event is posted as JSON, signed as https://www.standardwebhooks.com asks. A 2xx is
the acknowledgement; anything else fails the delivery, which comes again, and in the end
is a dead letter, as with any service worker.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from anyio import to_thread

from broker.settings import Settings
from schemas.errors import ConfigError
from schemas.events import EventType
from schemas.records import ResponseHead
from schemas.urls import check_address, parse_url
from workers.events import BackgroundFetchEvent
from workers.exchange import Outgoing
from workers.reach import redis_endpoints
from workers.service_worker import ServiceWorker
from workers.transport import Transport, TransportLimits
from workers.uploads import InlineUpload

if TYPE_CHECKING:
    from standardwebhooks.webhooks import Webhook as Signer

LEAST_SECRET, MOST_SECRET = 24, 64
"""Bytes of a secret, by the Standard Webhooks specification."""
TIMEOUT = timedelta(seconds=20)
"""How long an endpoint may take to answer: it should answer first and work then."""


class NotAcknowledged(Exception):
    """An endpoint answered an event with something else than 2xx."""


class Webhook:
    """Posts every event of a scope to one URL; an async context manager.

    ``secrets`` are ``whsec_`` and base64, of 24 to 64 bytes; each one signs, so that an
    endpoint may change from one to the next. Redirects are not followed, and addresses
    are refused as for every other request (guarantee 8).

    The body has ``type``, ``timestamp`` (RFC 3339, when the event was published) and
    ``data``: the registration under the IDL's names, and ``deliveryId``. The header
    ``webhook-id`` is the same for every attempt at a delivery.
    """

    def __init__(
        self,
        scope: str,
        url: str,
        *,
        secrets: Sequence[str],
        name: str = "webhook",
        settings: Settings,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        """Make the subscriber ``name`` of ``scope`` that posts to ``url``.

        Raises:
            ConfigError: a secret has the wrong form, or the extra is not installed.
            InvalidName: ``scope`` or ``name`` has the wrong form.
            InvalidURL: ``url`` may not be fetched.
        """
        self.service_worker = ServiceWorker(scope, name=name)
        self._url = parse_url(url, None)
        check_address(self._url, settings.allow_networks)
        self._signers = [_signer(secret) for secret in secrets]
        if not self._signers:
            raise ConfigError("a webhook needs a secret to sign with, got none")
        self._settings = settings
        self._timeout = timeout
        for type in EventType:
            self.service_worker.add_event_listener(type, self.post)

    async def __aenter__(self) -> Self:
        """Get ready to post.

        Raises:
            Unreachable: there is no Redis, or its name has no address.
        """
        settings, seconds = self._settings, self._timeout.total_seconds()
        limits = TransportLimits(
            connect_timeout=min(seconds, settings.connect_timeout.total_seconds()),
            first_byte_timeout=seconds,
            low_speed_time=seconds,
        )
        self._transport = Transport(
            limits,
            settings.allow_networks,
            closed=await to_thread.run_sync(redis_endpoints, settings.found_redis()),
            proxy=settings.proxy,
            proxy_resolves=settings.proxy_resolves,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def post(self, event: BackgroundFetchEvent) -> None:
        """Post one event, and return once it is acknowledged.

        Raises:
            NotAcknowledged: the answer was no 2xx.
            TransferError: there was no answer.
        """
        body = _body(event)
        digest = hashlib.sha256(event.delivery_id.encode()).hexdigest()
        headers = (
            ("Content-Type", "application/json"),
            *self._signature(f"msg_{digest[:32]}", body),
        )
        answer = _Answer()
        outgoing = Outgoing("POST", self._url, headers, InlineUpload(body))
        await self._transport.exchange(outgoing, answer)
        if not 200 <= answer.status <= 299:
            raise NotAcknowledged(f"{self._url} answered with status {answer.status}")

    def _signature(self, id: str, body: bytes) -> tuple[tuple[str, str], ...]:
        now, text = datetime.now(UTC), body.decode()
        signatures = [signer.sign(id, now, text) for signer in self._signers]
        return (
            ("webhook-id", id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(signatures)),
        )


class _Answer:
    """Takes a status; the body does not matter. A ``Sink``."""

    def __init__(self) -> None:
        self.status = 0

    def head(self, head: ResponseHead) -> bool:
        self.status = head.status
        return False

    def write(self, chunk: bytes) -> bool:
        return False


def _body(event: BackgroundFetchEvent) -> bytes:
    published = datetime.fromtimestamp(event.time_stamp / 1000, UTC)
    registration = event.registration.state.model_dump(mode="json")
    payload = {
        "type": event.type,
        "timestamp": published.isoformat(timespec="milliseconds"),
        "data": {"deliveryId": event.delivery_id, "registration": registration},
    }
    return json.dumps(payload, ensure_ascii=False).encode()


def _signer(secret: str) -> Signer:
    try:
        from standardwebhooks.webhooks import Webhook as Signer
    except ImportError as error:
        raise ConfigError(
            "webhooks need the extra: pip install 'background-fetch[webhooks]'"
        ) from error
    plain = secret.strip().removeprefix("whsec_")
    try:
        size = len(b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except ValueError:
        size = 0
    if not LEAST_SECRET <= size <= MOST_SECRET:
        raise ConfigError(
            f"a webhook's secret is whsec_ and base64 of {LEAST_SECRET} to "
            f"{MOST_SECRET} bytes: make one with `openssl rand -base64 32`"
        )
    return Signer(plain)
