"""Registering background fetches over HTTP, with the bodies that they send."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from broker.gateway.access import Role, needs
from broker.gateway.api_route import JSON, OurCall, UploadRoute
from broker.gateway.contents import FIRST_PART, FORM, content_of
from broker.gateway.documents import WRITING, problems
from broker.gateway.forms import FetchForm
from broker.gateway.gateway import OurGateway, OurManager
from broker.gateway.refusals import WrongForm
from broker.gateway.routes.fetches import shown
from broker.gateway.views import FetchView
from broker.registration import BackgroundFetchRegistration
from schemas import errors

router = APIRouter(
    prefix="/scopes/{scope}/fetches", tags=["fetches"], route_class=UploadRoute
)

_FORM = {"$ref": "#/components/schemas/FetchForm"}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        JSON: {"schema": _FORM},
        FORM: {
            "schema": {
                "type": "object",
                "description": "files follow in the order of the requests that name "
                'them, as `{"part": NAME}`',
                "properties": {FIRST_PART: _FORM},
                "required": [FIRST_PART],
                "additionalProperties": {"type": "string", "format": "binary"},
            },
            "encoding": {FIRST_PART: {"contentType": JSON}},
        },
    },
}
REGISTERED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "It is registered, and goes on by itself.",
        "headers": {
            "Location": {
                "description": "where it is shown",
                "schema": {"type": "string"},
            }
        },
    }
}
"""What is answered where a fetch is registered."""


@router.post(
    "",
    status_code=201,
    dependencies=[needs(Role.PRODUCER)],
    responses={
        **REGISTERED,
        **problems(
            *WRITING,
            errors.RejectedFetch,
            errors.InvalidRequest,
            errors.InvalidURL,
            errors.ForbiddenAddress,
            errors.InvalidOptions,
            errors.DuplicateFetch,
            errors.NoActiveWorker,
            errors.NotAllowed,
            errors.StorageError,
        ),
    },
    openapi_extra={"requestBody": _BODY},
    summary="Register a fetch",
)
async def register_fetch(
    request: Request,
    response: Response,
    gateway: OurGateway,
    manager: OurManager,
    call: OurCall,
) -> FetchView:
    """Start a background fetch and answer once it is durable: `fetch()`.

    It is registered whole or not at all. As JSON, or as a form whose first part,
    `fetch`, is the JSON, and whose files are bodies of its requests: these are stored
    as they arrive, however large.
    """
    if call is not None and call.again:
        # Whoever began this call may have got as far as registering it.
        known = await manager.lookup(call.token)
        if known is not None:
            return await shown(manager, known)
    content = await content_of(request, gateway.settings.max_json)
    try:
        form = FetchForm.model_validate_json(content.json)
    except ValidationError as error:
        raise WrongForm.of(error.errors(include_url=False)) from error
    registration = await manager.fetch(
        form.id,
        form.made(content.file),
        title=form.title,
        icons=[icon.model_dump() for icon in form.icons],
        download_total=form.download_total,
        hold=timedelta(seconds=form.hold),
        priority=form.priority,
        token=call.token if call is not None else None,
    )
    response.headers["Location"] = location(request, registration)
    return FetchView.of(registration.state)


def location(request: Request, fetch: BackgroundFetchRegistration) -> str:
    """The address of a fetch."""
    return request.url_for("get_fetch", scope=fetch.scope, uid=fetch.uid).path
