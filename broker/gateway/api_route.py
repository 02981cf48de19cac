"""How every route of the API treats what all requests have in common."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Annotated, Any, ClassVar

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from typing_extensions import override

from broker.gateway.access import OurCaller
from broker.gateway.contents import FORM, content_of, is_form
from broker.gateway.gateway import OurGateway
from broker.gateway.once import Call, Replayed, fingerprint, key_of
from broker.gateway.refusals import (
    NotAcceptable,
    Refusal,
    UnsupportedContent,
    WrongForm,
)
from schemas.errors import BackgroundFetchError, Failure

JSON = "application/json"

_REFUSALS = (Refusal, BackgroundFetchError, RequestValidationError, HTTPException)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JSONRoute(APIRoute):
    """Answers with JSON, reads JSON, and says where it is asked for anything else.

    A request with an ``Idempotency-Key`` is carried out once; see ``once``.
    """

    reads: ClassVar[tuple[str, ...]] = (JSON,)

    @override
    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            _check_accept(request.headers.get("accept"))
            self._check_content(request)
            try:
                response = await handle(request)
            except Replayed as replayed:
                return replayed.response
            except HTTPException as error:
                if error.status_code == HTTPStatus.BAD_REQUEST:  # it is not even text
                    raise WrongForm(str(error.detail)) from error
                await _give_up(request, error)
                raise
            except BaseException as error:
                await _give_up(request, error)
                raise
            if (call := _call(request)) is not None:
                await call.answer(response)
            return response

        return checked

    def _check_content(self, request: Request) -> None:
        headers = request.headers
        if headers.get("content-length", "0") == "0" and (
            "transfer-encoding" not in headers
        ):
            return
        given = headers.get("content-type", "")
        type = given.partition(";")[0].strip().lower()
        if type in self.reads or (FORM in self.reads and is_form(given)):
            return
        known = " or ".join(self.reads)
        raise UnsupportedContent(
            f"Content-Type: {given!r} is not read here: send {known}",
            {"Accept": ", ".join(self.reads)},
        )


class UploadRoute(JSONRoute):
    """The same, where files may come along."""

    reads = (JSON, FORM)


async def begun(
    request: Request,
    gateway: OurGateway,
    caller: OurCaller,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="makes this request one that is carried out once, however "
            "often it is sent: its answer is repeated for 24 hours",
            examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
        ),
    ] = None,
) -> Call | None:
    """Begin a request that carries an idempotency key.

    Raises:
        Replayed: it was carried out.
        IdempotencyKeyInUse, IdempotencyKeyReused, WrongForm: it is not to be.
    """
    if key is None:
        return None
    settings = gateway.settings
    call = Call(gateway.connection, key_of(caller.name, key), settings.lease)
    url = request.url
    content = await content_of(request, settings.max_json)
    # Of a form that is its JSON: files need not be sent only to hear the answer.
    line = f"{request.method} {url.path}?{url.query}".encode()
    await call.begin(fingerprint(line, content.json))
    request.state.call = call
    return call


OurCall = Annotated[Call | None, Depends(begun)]
"""The call that a request with an idempotency key makes; None without one."""


def _call(request: Request) -> Call | None:
    call = getattr(request.state, "call", None)
    return call if isinstance(call, Call) else None


async def _give_up(request: Request, error: BaseException) -> None:
    if (call := _call(request)) is not None:
        refused = isinstance(error, _REFUSALS) and not isinstance(error, Failure)
        await call.fail(nothing_done=refused and not call.again)


def _check_accept(accept: str | None) -> None:
    if accept is None or any(_takes_json(item) for item in accept.split(",")):
        return
    raise NotAcceptable(f"Accept: {accept!r} leaves no way to answer: add {JSON}")


def _takes_json(item: str) -> bool:
    range, *parameters = (part.strip().lower() for part in item.split(";"))
    refused = any(_is_zero(value) for value in _weights(parameters))
    return range in ("", "*/*", "application/*", JSON) and not refused


def _weights(parameters: list[str]) -> Iterator[str]:
    return (each[2:] for each in parameters if each.startswith("q="))


def _is_zero(weight: str) -> bool:
    return weight.strip("0.") == ""
