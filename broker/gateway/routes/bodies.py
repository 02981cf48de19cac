"""The bodies of records over HTTP: what arrived, and what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from broker.codings import decoder_of
from broker.gateway.access import Role, needs
from broker.gateway.bodies import UNTYPED, Bytes, described, send
from broker.gateway.documents import problems
from broker.gateway.gateway import OurGateway
from broker.gateway.paths import OurRecord
from broker.gateway.refusals import NotFound, NotYet, RangeNotSatisfiable
from broker.record import BackgroundFetchRecord
from broker.records import RecordLook
from broker.response import Response as FetchedResponse
from schemas import errors
from schemas.bodies import BodyStream
from schemas.records import RecordResult

_BINARY: dict[str, Any] = {"content": {UNTYPED: {"schema": {"format": "binary"}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The body.", **_BINARY},
    206: {"description": "The part of the body that was asked for.", **_BINARY},
    304: {"description": "It is what the client has."},
}
_PROBLEMS = problems(
    NotFound,
    NotYet,
    RangeNotSatisfiable,
    errors.Aborted,
    errors.RecordFailed,
    errors.UndecodableBody,
    errors.InvalidState,
    errors.StorageError,
)
router = APIRouter(
    prefix="/scopes/{scope}/fetches/{uid}/records/{index}",
    tags=["records"],
    dependencies=[needs(Role.VIEWER)],
    default_response_class=Response,
)


@dataclass(frozen=True, slots=True)
class _Wish:
    raw: Annotated[
        bool, Query(description="as it was sent: leave gzip and deflate alone")
    ] = False
    inline: Annotated[
        bool, Query(description="to look at in a browser, rather than to save")
    ] = False
    wait: Annotated[
        float, Query(ge=0, le=60, description="seconds to wait for the first byte")
    ] = 30


OurWish = Annotated[_Wish, Depends()]


@router.get(
    "/response/body", responses=_ANSWERS | _PROBLEMS, summary="The body of a response"
)
async def get_response_body(
    request: Request, record: OurRecord, gateway: OurGateway, wish: OurWish
) -> Response:
    """Return what arrived, from its first byte on, also while the rest arrives.

    A status of 200 is ours: that of the origin is in the record. If the download fails
    meanwhile, or begins again with another version, the body is cut off. Ranges are of
    the stored bytes; a body with a `Content-Encoding` has them if `raw` is asked for.
    """
    response = await _response(record, wish.wait)
    look = record.look
    assert look is not None
    head = None if wish.raw else look.state.head
    decoder = decoder_of(head, gateway.settings.decoding) if head else None
    sha256 = "" if decoder is not None else look.state.digest
    type_ = response.headers.get("Content-Type")
    headers = described(record.request.url, type_, sha256, inline=wish.inline)
    if decoder is not None:
        body = Bytes(_whole(response), tags=_tags(look, "-decoded"), begun=_begun(look))
    else:
        body = Bytes(
            _whole(response.raw),
            _length(record, look),
            response.part,
            _tags(look),
            _begun(look),
        )
    return await send(request, body, headers)


@router.head(
    "/response/body", responses=_ANSWERS | _PROBLEMS, summary="About that body"
)
async def head_response_body(
    request: Request, record: OurRecord, gateway: OurGateway, wish: OurWish
) -> Response:
    """Return the headers with which the body would come."""
    return await get_response_body(request, record, gateway, wish)


@router.get(
    "/request/body",
    responses=_ANSWERS | problems(NotFound, errors.InvalidState, errors.StorageError),
    summary="The body of a request",
)
async def get_request_body(request: Request, record: OurRecord) -> Response:
    """Return what is sent, or was."""
    sent = record.request
    body = sent.body
    if body is None:
        raise NotFound(f"record {record.index} sends no body")
    given = [value for name, value in sent.header_list if name.lower() == _TYPE]
    headers = described(sent.url, given[0] if given else None, "", inline=False)
    return await send(request, Bytes(lambda: _sent(body), record.upload_total), headers)


_TYPE = "content-type"


async def _response(record: BackgroundFetchRecord, wait: float) -> FetchedResponse:
    try:
        async with asyncio.timeout(wait):
            return await record.response_ready
    except TimeoutError:
        raise NotYet(
            f"record {record.index} has no response yet: ask again, or wait longer",
            {"Retry-After": "1"},
        ) from None


def _whole(response: FetchedResponse) -> Any:
    return lambda: response.body


def _length(record: BackgroundFetchRecord, look: RecordLook) -> int | None:
    if look.outcome is not RecordResult.OPEN:
        return look.stored
    return (look.length or None) if record.request.method != "HEAD" else None


def _tags(look: RecordLook, suffix: str = "") -> tuple[str, ...]:
    # A part has the bytes of one version for ever (R3), and a name of its own.
    part = look.state.checkpoint.part if look.state.checkpoint is not None else ""
    return tuple(f'"{name}{suffix}"' for name in (look.state.digest, part) if name)


def _begun(look: RecordLook) -> bool:
    return look.stored > 0 or look.outcome is not RecordResult.OPEN


async def _sent(body: object) -> AsyncGenerator[bytes]:
    if isinstance(body, BodyStream):
        async for block in body:
            yield block
    elif isinstance(body, bytes):
        yield body
