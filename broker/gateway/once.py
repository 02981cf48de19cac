"""Requests with an ``Idempotency-Key``: carried out once, answered again and again.

The header is that of draft-ietf-httpapi-idempotency-key-header. A call has a token that
outlives the process which carries it out, and operations are named by it: the uid of a
fetch, the token of an abort (R23). So what a dead process did is found, not done again.
Only what was carried out has an answer that is kept; a refusal leaves the key free.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from contextlib import suppress
from datetime import timedelta

from starlette.responses import Response

from broker.connection import Connection
from broker.gateway.refusals import (
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    WrongForm,
)
from broker.keys import call
from broker.settings import milliseconds
from broker.tasks import cancel_all
from schemas.errors import BackgroundFetchError
from schemas.names import new_uid

KEPT = timedelta(hours=24)
MOST_KEPT = 1024 * 1024
"""Bytes of an answer that is kept."""

# A string of RFC 8941; people leave the quotes out, and uuids do without escapes.
_KEY = re.compile(r'"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255})')
_HEADERS = ("content-type", "location")


class Replayed(Exception):
    """This request was carried out before: the answer of then."""

    def __init__(self, response: Response) -> None:
        super().__init__("this request was carried out before")
        self.response = response


class Call:
    """One request with an idempotency key, as this process carries it out."""

    def __init__(self, connection: Connection, key: str, lease: timedelta) -> None:
        self.token = new_uid()
        """Stands for what is done: 32 hexadecimal digits."""
        self.again = False
        """Whether somebody has begun this call before, and may have done it."""
        self._connection = connection
        self._key = key
        self._lease = lease
        self._holder = secrets.token_hex(8)
        self._renewing: asyncio.Task[None] | None = None

    async def begin(self, fingerprint: str) -> None:
        """Make this process the one that carries it out, until ``answer`` or ``fail``.

        Raises:
            Replayed: it was carried out.
            IdempotencyKeyInUse: it is being carried out.
            IdempotencyKeyReused: it is another call.
        """
        verdict, token, answer = await self._ask(
            "begin",
            fingerprint,
            self.token,
            milliseconds(self._lease),
            milliseconds(KEPT),
        )
        if verdict == b"done":
            raise Replayed(_restored(answer))
        if verdict == b"busy":
            raise IdempotencyKeyInUse(
                "the request with this Idempotency-Key is being carried out: ask again",
                {"Retry-After": "1"},
            )
        if verdict == b"other":
            raise IdempotencyKeyReused(
                "this Idempotency-Key belongs to a request with another method, "
                "address or body: make a new key"
            )
        first = token.decode()
        self.again, self.token = first != self.token, first
        self._renewing = asyncio.create_task(self._renew(fingerprint), name="call")

    async def _renew(self, fingerprint: str) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            with suppress(BackgroundFetchError):
                await self._ask(
                    "begin",
                    fingerprint,
                    self.token,
                    milliseconds(self._lease),
                    milliseconds(KEPT),
                )

    async def answer(self, response: Response) -> None:
        """Keep the answer for those who ask again."""
        kept = _kept(response)
        await self._end(*(("answer", kept) if kept is not None else ("fail",)))

    async def fail(self, *, nothing_done: bool) -> None:
        """Let the next one try; with the same token, unless nothing was done."""
        await self._end("forget" if nothing_done else "fail")

    async def _end(self, *words: str | bytes) -> None:
        if self._renewing is not None:
            await cancel_all([self._renewing])
        # It is done, or not: the answer is the same without a trace of it.
        with suppress(BackgroundFetchError):
            await self._ask(*words)

    async def _ask(self, verb: str | bytes, *rest: str | bytes | int) -> list[bytes]:
        reply: list[bytes] = await self._connection.run(
            "once", [self._key], [verb, self._holder, *rest]
        )
        return reply


def key_of(caller: str, header: str) -> str:
    """Return the Redis key of a call: keys are each caller's own.

    Raises:
        WrongForm: the header is no key.
    """
    match = _KEY.fullmatch(header.strip())
    if match is None:
        raise WrongForm(
            f"Idempotency-Key: {header[:100]!r} is no key: write 1 to 255 visible "
            'characters in quotes, as "8e03978e-40d5-43dd-bc93-6894a57f9324"'
        )
    return call(_digest(caller.encode(), (match[1] or match[2]).encode()))


def fingerprint(*parts: bytes) -> str:
    """Return what tells one call from another."""
    return _digest(*parts)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _kept(response: Response) -> bytes | None:
    body = bytes(response.body) if isinstance(response.body, bytes) else None
    if body is None or len(body) > MOST_KEPT:
        return None
    headers = {name: response.headers.get(name) for name in _HEADERS}
    head = json.dumps([response.status_code, headers]).encode()
    return head + b"\n" + body


def _restored(answer: bytes) -> Response:
    head, _, body = answer.partition(b"\n")
    status, headers = json.loads(head)
    response = Response(body, status)
    for name, value in headers.items():
        if value is not None:
            response.headers[name] = value
    response.headers["Idempotency-Replayed"] = "true"
    return response
