"""The arguments of ``match()`` and ``matchAll()`` in the query of an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from schemas.errors import InvalidRequest
from schemas.requests import Request


@dataclass(frozen=True, slots=True)
class MatchQuery:
    """A request that is looked for, and how it is compared."""

    url: Annotated[
        str | None,
        Query(description="of the request; none: every record matches"),
    ] = None
    method: Annotated[str, Query(description="of the request")] = "GET"
    header: Annotated[
        list[str] | None,
        Query(description="of the request, as `Accept: text/html`, for `Vary`"),
    ] = None
    ignore_search: Annotated[
        bool,
        Query(
            alias="ignoreSearch",
            description="compare no query",
        ),
    ] = False
    ignore_method: Annotated[
        bool, Query(alias="ignoreMethod", description="compare no method")
    ] = False
    ignore_vary: Annotated[
        bool,
        Query(
            alias="ignoreVary",
            description="pass over the `Vary` of responses",
        ),
    ] = False

    async def records(
        self, fetch: BackgroundFetchRegistration
    ) -> list[BackgroundFetchRecord]:
        """Return the records of a fetch that match.

        Raises:
            InvalidRequest, InvalidURL: there is no such request.
            InvalidState: the records are released.
        """
        return await fetch.match_all(
            self._request(),
            ignore_search=self.ignore_search,
            ignore_method=self.ignore_method,
            ignore_vary=self.ignore_vary,
        )

    def _request(self) -> Request | None:
        if self.url is None:
            return None
        headers = [_pair(each) for each in self.header or ()]
        return Request(self.url, method=self.method, headers=headers)


def _pair(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise InvalidRequest(f"a header is written 'Name: value', got {text!r}")
    return name.strip(), value.strip()


OurQuery = Annotated[MatchQuery, Depends()]
