"""``/healthz`` and ``/readyz``: whether this process lives, and can answer."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from broker.gateway.gateway import OurGateway
from broker.gateway.problems import answer, plain
from schemas.errors import Failure

router = APIRouter(tags=["operation"])

PATIENCE = 2.0
"""Seconds in which Redis has to answer."""


@router.get("/healthz")
async def get_liveness() -> dict[str, str]:
    """Tell that this process answers, Redis or not: restart it if it does not."""
    return {"status": "ok"}


@router.get("/readyz", responses={HTTPStatus.SERVICE_UNAVAILABLE: {}})
async def get_readiness(gateway: OurGateway) -> JSONResponse:
    """Tell whether Redis answers too: send no requests here while it does not."""
    try:
        async with asyncio.timeout(PATIENCE):
            await gateway.connection.ping()
    except TimeoutError:
        told = f"Redis did not answer within {PATIENCE:g} s"
        return answer(plain(HTTPStatus.SERVICE_UNAVAILABLE, told))
    except Failure as error:
        return answer(plain(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))
    return JSONResponse({"status": "ok"})
