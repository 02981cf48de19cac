"""Background fetches as the API shows them: the IDL's names, times in ISO 8601."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from broker.plain import as_plain, iso
from schemas.fetches import FailureReason, FetchState, Result
from schemas.options import ImageResource
from schemas.timelines import Happening, Moment


class View(BaseModel):
    """What an answer has in it."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
    )


class FetchView(View):
    """A background fetch."""

    uid: str = Field(
        description="our name for this fetch, for ever",
        examples=["4f1c0c9a7d0f4a2c8a0f6d5e1b2c3d4e"],
    )
    id: str = Field(
        description="the caller's name for it, unique among the scope's active fetches",
        examples=["ep-5"],
    )
    scope: str = Field(examples=["podcasts"])
    title: str = Field(examples=["Episode 5"])
    icons: list[ImageResource]
    download_total: int = Field(description="bytes that are expected; 0: unknown")
    downloaded: int = Field(description="bytes of responses that are stored now")
    upload_total: int = Field(description="bytes of all request bodies")
    uploaded: int = Field(description="bytes of request bodies that were sent")
    result: Result = Field(description="empty while the fetch is active")
    failure_reason: FailureReason = Field(description="empty unless it failed")
    records_available: bool = Field(description="whether the records can be read")
    pausable: bool = Field(description="whether all of its requests are GET")
    paused: bool
    prompt: bool = Field(description="whether it waits until `resume` permits it")
    records: int
    open_records: int
    base_url: str
    created_at: str | None = Field(examples=["2026-11-22T18:30:00.000Z"])
    settled_at: str | None
    seq: int = Field(description="rises from one fetch of the scope to the next")
    version: int = Field(description="rises with every change")
    waiting: str = Field("", description="why it does not begin, for people")

    @classmethod
    def of(cls, state: FetchState, waiting: str = "") -> Self:
        """Show a fetch as it stands."""
        return cls.model_validate(as_plain(state) | {"waiting": waiting})


class AbortView(View):
    """What an abort came to."""

    id: str
    uid: str
    aborted: bool = Field(description="false if the fetch had ended already")


class ClickView(View):
    """A click that was published."""

    id: str
    uid: str
    event: str = Field(
        description="its name within the fetch: see `events/{event}`",
        examples=["backgroundfetchclick.1"],
    )


class SettlementView(View):
    """What became of an event at each subscriber that is owed it."""

    event: str = Field(
        description="empty while the fetch is active, and its end not an event yet",
        examples=["backgroundfetchsuccess"],
    )
    settled: bool
    outcomes: dict[str, str] = Field(
        description="acked, purged, expired or removed for each subscriber, once the "
        "event is settled",
        examples=[{"default": "acked"}],
    )


class FetchPage(View):
    """Some of the background fetches that were asked for."""

    items: list[FetchView]
    cursor: str | None = Field(
        description="give it to have those that follow; null behind the last. A page "
        "may have few items, or none, and not be the last"
    )


class IdsView(View):
    """The ids of the active background fetches."""

    ids: list[str] = Field(examples=[["ep-5"]])


class CountsView(View):
    """How many background fetches are in each state."""

    active: int
    paused: int
    success: int
    failure: int
    aborted: int
    awaiting: int = Field(description="ended ones whose records are held")


class MomentView(View):
    """One thing that happened."""

    at: str | None = Field(examples=["2026-11-22T18:30:00.000Z"])
    what: Happening
    detail: str = Field(description="for people: where, how often, and why")
    event: str = Field(description="its name, where it is about an event")
    subscriber: str

    @classmethod
    def of(cls, moment: Moment) -> Self:
        """Show a moment."""
        plain = moment.model_dump(by_alias=False)
        return cls.model_validate(plain | {"at": iso(moment.at)})


class TimelineView(View):
    """What happened to a background fetch, oldest first."""

    items: list[MomentView]
