"""Which digests the bytes of a record must have before it succeeds (R6).

| who names them        | what they cover               | when they are checked  |
|-----------------------|-------------------------------|------------------------|
| ``Request.integrity`` | the body, decoded, whatever   | always, as Fetch does  |
|                       | its status                    |                        |
| ``Repr-Digest``       | the whole representation      | 200 and 206 to a GET   |
| ``Content-Digest``    | the content of one answer     | if it alone brought    |
|                       |                               | the body: 200 or 206   |

A ``Repr-Digest`` holds for a body that several answers brought: they were proved to be
of one representation. It says nothing of the slice that a caller's own ``Range`` asked
for, and for methods other than GET it may be that of another resource (RFC 9530 § 3.1).
Those of an origin cover the bytes as stored, content coding included. Digests in
trailers are not seen.
"""

from __future__ import annotations

from schemas.integrity import INTEGRITY, Demand, parse_digest_field, parse_integrity
from schemas.records import ResponseHead
from schemas.requests import Request

REPR_DIGEST, CONTENT_DIGEST = "Repr-Digest", "Content-Digest"
_SIZES = (len(REPR_DIGEST), len(CONTENT_DIGEST))
_ENDING = "-digest"


def demands(
    request: Request,
    first: ResponseHead,
    latest: ResponseHead | None,
    *,
    user_range: bool,
) -> list[Demand]:
    """Return what a whole body must be; usually nothing.

    ``first`` is the answer that began the body and ``latest`` the one that ended it,
    None if it had nothing to add. The origin's demands come first, since bytes that
    break them may be worth another transfer.
    """
    found: list[Demand] = []
    for head in (first,) if latest is None or latest is first else (first, latest):
        # Nearly every answer ends here, and costs no more than this look.
        names = [name for name, _ in head.headers if len(name) in _SIZES]
        if names and any(name[-len(_ENDING) :].lower() == _ENDING for name in names):
            whole = head.status == 200 or not user_range
            found += _sent(request.method, head, whole=whole, alone=latest is first)
    if request.integrity:
        demand = parse_integrity(request.integrity)
        found += [demand] if demand else []
    return list(dict.fromkeys(found)) if found else found


def by_origin(demand: Demand) -> bool:
    """Whether the origin itself made the demand: then the transfer may be at fault."""
    return demand.source != INTEGRITY


def _sent(method: str, head: ResponseHead, *, whole: bool, alone: bool) -> list[Demand]:
    if head.status not in (200, 206):
        return []
    fields = [REPR_DIGEST] if whole and method == "GET" else []
    fields += [CONTENT_DIGEST] if alone and method != "HEAD" else []
    read = [(name, head.get(name)) for name in fields]
    parsed = [parse_digest_field(name, value) for name, value in read if value]
    return [demand for demand in parsed if demand is not None]
