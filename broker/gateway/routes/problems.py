"""What the problems mean with which the API answers."""

from __future__ import annotations

from fastapi import APIRouter

from broker.gateway.api_route import JSONRoute
from broker.gateway.documents import problems
from broker.gateway.problems import ProblemKind, kinds
from broker.gateway.refusals import NotFound

router = APIRouter(prefix="/problems", tags=["problems"], route_class=JSONRoute)


@router.get("", summary="All types of problems")
async def list_problems() -> list[ProblemKind]:
    """Return every type of problem that the gateway tells."""
    return list(kinds().values())


@router.get("/{kind}", responses=problems(NotFound), summary="One type of problem")
async def get_problem(kind: str) -> ProblemKind:
    """Say what a problem of this type means: its `type` is this address."""
    found = kinds().get(kind)
    if found is None:
        raise NotFound(f"there is no type of problem {kind!r}")
    return found
