"""What the gateway itself has against a request; other errors are the broker's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Self


class Refusal(Exception):
    """A request that cannot be carried out as it is; told as a problem."""

    status: ClassVar[HTTPStatus]

    def __init__(
        self,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        """``errors`` tells each thing that is wrong, where they are many."""
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.errors = errors


class NotFound(Refusal):
    """There is nothing under this address.

    It never was, its retention has ended, or it was forgotten.
    """

    status = HTTPStatus.NOT_FOUND


class NotYet(Refusal):
    """The response has not begun.

    The record is still without the head of a response. Ask again, or let the request
    wait longer with ``?wait=``.
    """

    status = HTTPStatus.CONFLICT


class NotAcceptable(Refusal):
    """The request accepts no media type in which there is an answer."""

    status = HTTPStatus.NOT_ACCEPTABLE


class UnsupportedContent(Refusal):
    """The body of the request is of a media type that is not read here."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class ContentTooLarge(Refusal):
    """The body of the request has more bytes than are read.

    For JSON that is ``BGFETCH_MAX_JSON``. Large bodies of requests to fetch go into
    parts of their own, which have no limit but the room in the blob store.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class RangeNotSatisfiable(Refusal):
    """The body has no bytes in the range that is asked for."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


class IdempotencyKeyReused(Refusal):
    """Another request was made with this Idempotency-Key.

    Method, address and body have to be the same. A key is remembered for 24 hours:
    make a new one for each thing that is to be done once.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class IdempotencyKeyInUse(Refusal):
    """The request with this Idempotency-Key is still being carried out.

    Ask again for its answer. If the process that carries it out has died, the next
    request carries it out instead, once the lease of the first has ended.
    """

    status = HTTPStatus.CONFLICT


class StaleDeliveries(Refusal):
    """A delivery is not the caller's any more.

    Its lease ended and it went on to somebody else, or was settled. ``errors`` names
    the tokens; the other deliveries of the request are dealt with as it says.
    """

    status = HTTPStatus.CONFLICT

    @classmethod
    def of(cls, tokens: Iterable[str]) -> Self:
        """Tell which they are."""
        message = "its lease has ended, or it is settled"
        each = [{"where": token, "message": message} for token in tokens]
        what = ", ".join(repr(one["where"]) for one in each)
        return cls(f"not the caller's any more: {what}", errors=each)


class WrongForm(Refusal):
    """The request has the wrong form.

    A value lacks, is of the wrong type or out of range, or the body is no JSON.
    ``errors`` has each one: where it is, and what is wrong with it.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    spec_name = "TypeError"

    @classmethod
    def of(cls, found: Iterable[Mapping[str, Any]]) -> Self:
        """Tell the errors that pydantic found."""
        each = [
            {"where": ".".join(map(str, one["loc"])), "message": str(one["msg"])}
            for one in found
        ]
        told = "; ".join(f"{one['where']}: {one['message']}" for one in each)
        return cls(told, errors=each)
