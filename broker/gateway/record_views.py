"""Records as the API shows them."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from broker.gateway.views import View
from broker.plain import record_as_plain
from broker.record import BackgroundFetchRecord
from broker.records import RecordLook
from schemas.records import RecordResult, RecordState, ResponseHead
from schemas.requests import Request
from schemas.secrets import shown_headers, shown_url

Pairs = list[tuple[str, str]]


class RecordView(View):
    """One request of a background fetch, and how it stands."""

    index: int = Field(description="its place among the requests, from 0")
    url: str = Field(
        description="what its query proves is masked",
        examples=["https://cdn.example/ep-5.mp3"],
    )
    method: str = Field(examples=["GET"])
    result: RecordResult = Field(description="empty while the record is open")
    failure_reason: str = Field(description="what happened, in words for people")
    status: int = Field(description="0 until there is one that may be seen")
    downloaded: int = Field(description="bytes of the response that are stored")
    length: int = Field(description="bytes of the whole response; 0: unknown")
    attempts: int

    @classmethod
    def of(cls, record: BackgroundFetchRecord) -> Self:
        """Show a record that was looked at."""
        return cls.model_validate(_plain(record))


class RequestView(View):
    """A request as it was registered; its body is under `request/body`."""

    url: str
    method: str
    headers: Pairs = Field(description="what is secret is masked")
    mode: str
    credentials: str
    redirect: str
    referrer: str
    referrer_policy: str
    integrity: str
    priority: str
    upload_total: int = Field(description="bytes of its body")

    @classmethod
    def of(cls, request: Request, upload_total: int) -> Self:
        """Show a request."""
        return cls(
            headers=shown_headers(request.header_list),
            url=shown_url(request.url),
            upload_total=upload_total,
            **{
                name: str(getattr(request, name))
                for name in cls.model_fields
                if name not in ("headers", "url", "upload_total")
            },
        )


class ResponseView(View):
    """The head of a response; its body is under `response/body`."""

    status: int
    status_text: str
    ok: bool
    url: str = Field(description="of the last hop")
    redirected: bool
    headers: Pairs
    sha256: str = Field(description="of the stored bytes; empty until all are there")

    @classmethod
    def of(cls, head: ResponseHead, state: RecordState) -> Self:
        """Show the head of a response."""
        return cls(
            status=head.status,
            status_text=head.status_text,
            ok=200 <= head.status <= 299,
            url=shown_url(head.url.partition("#")[0]),
            redirected=head.redirected,
            headers=shown_headers(head.headers),
            sha256=state.digest,
        )


class RecordDetail(RecordView):
    """One record with its request and the head of its response."""

    request: RequestView
    response: ResponseView | None = Field(
        description="null until it has begun, and where it may not be seen"
    )

    @classmethod
    def in_full(cls, record: BackgroundFetchRecord) -> Self:
        """Show all of a record that was looked at."""
        look = _look(record)
        head = look.state.head if look.outcome.exposed else None
        return cls.model_validate(
            _plain(record)
            | {
                "request": RequestView.of(record.request, record.upload_total),
                "response": ResponseView.of(head, look.state) if head else None,
            }
        )


class RecordPage(View):
    """Some records, in the order of the requests."""

    items: list[RecordView]
    cursor: str | None = Field(
        description="give it to have those that follow; null behind the last"
    )


class MatchView(View):
    """The first record that a request matches."""

    record: RecordView | None


class MatchesView(View):
    """The records that a request matches, in the order of the requests."""

    records: list[RecordView]


def _look(record: BackgroundFetchRecord) -> RecordLook:
    assert record.look is not None
    return record.look


def _plain(record: BackgroundFetchRecord) -> dict[str, object]:
    plain = record_as_plain(record.request, _look(record))
    return plain | {"index": record.index, "url": shown_url(record.request.url)}
