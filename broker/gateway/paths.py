"""What the addresses of the API name: a fetch of a scope, a record of a fetch."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from broker.gateway.gateway import OurManager
from broker.gateway.refusals import NotFound
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration

Uid = Annotated[
    str,
    Path(
        description="the `uid` of a background fetch",
        examples=["4f1c0c9a7d0f4a2c8a0f6d5e1b2c3d4e"],
    ),
]
Index = Annotated[
    int, Path(ge=0, lt=2**31, description="the place of a record, from 0")
]


async def fetch_of(uid: Uid, manager: OurManager) -> BackgroundFetchRegistration:
    """Find the background fetch in the path of a request.

    Raises:
        NotFound: there is none.
    """
    registration = await manager.lookup(uid)
    if registration is None:
        raise NotFound(f"no background fetch {uid!r} in scope {manager.scope!r}")
    return registration


OurFetch = Annotated[BackgroundFetchRegistration, Depends(fetch_of)]


async def record_of(index: Index, fetch: OurFetch) -> BackgroundFetchRecord:
    """Find the record in the path of a request, looked at now.

    Raises:
        NotFound: the fetch has fewer.
        InvalidState: the records are released.
    """
    found = await fetch.records(index, 1)
    if not found:
        raise NotFound(
            f"no record {index}: background fetch {fetch.uid!r} has "
            f"{fetch.state.records}, counted from 0"
        )
    return found[0]


OurRecord = Annotated[BackgroundFetchRecord, Depends(record_of)]
