"""Retrying a fetch that failed: the same requests as a new background fetch.

Its requests are kept as long as the fetch, those of a success apart, which nobody
retries. Large bodies are in the blob store, and go with the records: while these are
held, a retry copies the bodies, so that each blob stays that of one fetch (R16).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

from broker.bodies import StoredStream
from broker.keys import FetchKeys, ScopeKeys
from broker.live_state import Owner
from broker.registrar import Registrar
from schemas.bodies import BodyStream, StoredBody
from schemas.errors import InvalidState
from schemas.fetches import FetchState, Priority, Result
from schemas.names import check_uid, new_uid
from schemas.options import FetchOptions
from schemas.requests import Request

BATCH = 500
"""Requests that are read in one command."""


def derived_token(token: str, uid: str) -> str:
    """The token of a retry that is one of many which one caller's token stands for."""
    return hashlib.sha256(f"{token}/{uid}".encode()).hexdigest()[:32]


async def retried(
    owner: Owner, id: str, keys: FetchKeys, token: str | None
) -> FetchState:
    """See ``BackgroundFetchRegistration.retry``."""
    uid = new_uid() if token is None else check_uid(token)
    if token is not None and (known := await _found(owner, FetchKeys(keys.scope, uid))):
        return known[0]
    found = await _found(owner, keys)
    if found is None:
        raise InvalidState(f"background fetch {id!r} is no longer retained")
    state, fields = found
    if state.result is Result.ACTIVE:
        raise InvalidState(f"background fetch {id!r} is active: there is no result yet")
    if state.result is Result.SUCCESS:
        raise InvalidState(f"background fetch {id!r} succeeded: fetch it again")
    registrar = Registrar(
        owner.connection,
        owner.settings,
        ScopeKeys(state.scope),
        state.base_url,
        reader=owner.reader,
        queue=owner.queue,
    )
    hold = timedelta(milliseconds=int(fields.get(b"hold", 0)))
    order = registrar.order(
        state.id,
        await _requests(owner, state),
        FetchOptions(state.title, state.icons, state.download_total, hold),
        Priority(fields.get(b"priority", b"auto").decode()),
    )
    return await registrar.register(replace(order, retry_of=state.uid), uid)


async def _found(
    owner: Owner, keys: FetchKeys
) -> tuple[FetchState, dict[bytes, bytes]] | None:
    fields: dict[bytes, bytes] = await owner.connection.ask("HGETALL", keys.fetch)
    state = FetchState.found(fields)
    return None if state is None else (state, fields)


async def _requests(owner: Owner, state: FetchState) -> list[Request]:
    keys = FetchKeys(state.scope, state.uid)
    found: list[Request] = []
    for start in range(0, state.records, BATCH):
        indexes = range(start, min(start + BATCH, state.records))
        rows: list[bytes | None] = await owner.connection.ask(
            "HMGET", keys.requests, *indexes
        )
        for index, row in zip(indexes, rows, strict=True):
            if row is None:
                raise InvalidState(f"the requests of {state.id!r} are not kept")
            found.append(_again(owner, state, index, Request.decode(row)))
    return found


def _again(owner: Owner, state: FetchState, index: int, request: Request) -> Request:
    body = request.body
    if not isinstance(body, StoredBody):
        return request
    if not state.records_available:
        raise InvalidState(
            f"the body of request {index} of {state.id!r} is released with the records"
        )
    keys = FetchKeys(state.scope, state.uid)
    stored = StoredStream(owner.reader, keys, index, body)
    return replace(request, body=BodyStream(stored))
