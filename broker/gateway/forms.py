"""What programs send: the arguments of ``fetch()``, ``match()`` and others as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from schemas.bodies import BodyStream
from schemas.requests import Request

File = Callable[[str], AsyncIterator[bytes]]
"""The bytes of a part of a form, by the part's name."""

MAX_HOLD = timedelta(days=3650)


class Form(BaseModel):
    """A JSON object; a member that is not known is an error, for it may be a slip."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=False, extra="forbid"
    )


class Base64Body(Form):
    """A body in Base64."""

    base64: Base64Bytes = Field(examples=["AAEC"])


class PartBody(Form):
    """A body that is a part of the form, by its name.

    Parts follow `fetch` in the order of the requests that name them.
    """

    part: str = Field(min_length=1, examples=["file"])


class RequestForm(Form):
    """The members of the Fetch standard's `Request`."""

    url: str = Field(examples=["https://cdn.example/ep-5.mp3"])
    method: str = "GET"
    headers: dict[str, str] | list[tuple[str, str]] = Field(
        default_factory=dict, examples=[{"Accept": "audio/*"}]
    )
    body: str | Base64Body | PartBody | None = Field(
        None, description="text, which is sent as UTF-8, Base64, or a part of the form"
    )
    mode: str = "cors"
    credentials: str = "same-origin"
    redirect: str = "follow"
    referrer: str = "about:client"
    referrer_policy: str = ""
    integrity: str = Field("", description="Subresource Integrity, as `sha256-…`")
    priority: str = "auto"

    def request(self, file: File) -> Request:
        """Make the request; ``file`` gives the bytes of parts.

        Raises:
            InvalidRequest: it cannot be made so.
        """
        members = self.model_dump(exclude={"url", "headers", "body"})
        headers = self.headers
        pairs = headers.items() if isinstance(headers, dict) else headers
        return Request(self.url, headers=list(pairs), body=self._body(file), **members)

    def _body(self, file: File) -> str | bytes | BodyStream | None:
        if isinstance(self.body, Base64Body):
            return self.body.base64
        if isinstance(self.body, PartBody):
            return BodyStream(file(self.body.part))
        return self.body


class IconForm(Form):
    """An icon: where it is and how large."""

    src: str = Field(examples=["/ep-5.png"])
    sizes: str = ""
    type: str = ""
    label: str = ""


class FetchForm(Form):
    """The arguments of `fetch(id, requests, options)`."""

    id: str = Field(examples=["ep-5"], description="1 to 1,024 bytes of UTF-8")
    requests: str | RequestForm | list[str | RequestForm] = Field(
        description="URLs, or requests with all their members",
        examples=[["https://cdn.example/ep-5.mp3"]],
    )
    title: str = Field("", examples=["Episode 5"])
    icons: list[IconForm] = []
    download_total: int = Field(
        0, ge=0, lt=2**64, description="bytes that the fetch may store; 0: unknown"
    )
    hold: float = Field(
        0,
        ge=0,
        le=MAX_HOLD.total_seconds(),
        description="seconds that the records stay readable after the result, at least",
    )
    priority: str = Field("auto", description="high, auto or low")

    def made(self, file: File) -> list[Request]:
        """Make the requests; see ``RequestForm.request``."""
        listed = self.requests if isinstance(self.requests, list) else [self.requests]
        return [
            Request(each) if isinstance(each, str) else each.request(file)
            for each in listed
        ]
