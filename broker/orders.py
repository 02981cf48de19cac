"""A background fetch that somebody asks for, before it is registered."""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.policies import ScopeRules
from schemas.fetches import Priority
from schemas.options import FetchOptions
from schemas.requests import Request
from schemas.urls import origin_of

MAX_HOSTS = 300
"""Characters of them that are kept to be searched: at least one host fits."""
MAX_PATH = 64
"""Characters, too: Redis keeps a hash small while its values are."""


@dataclass(frozen=True, slots=True)
class Order:
    """A fetch that somebody asks for, its requests checked."""

    id: str
    requests: list[Request]
    """With absolute URLs; those with large bodies come to name where these are."""
    urls: list[str]
    """One of each origin."""
    options: FetchOptions
    priority: Priority
    retry_of: str = ""
    """The uid of the fetch that is tried again."""

    def check(self, rules: ScopeRules) -> None:
        """Raise what the rules of the scope say against this fetch.

        Raises:
            NotAllowed: the permission is denied.
            NoActiveWorker: a subscriber is required, and there is none.
            InvalidURL: an origin is refused.
            QuotaExceeded: more bytes are announced than are allowed, or the bodies, as
                far as they are read, have more than that.
        """
        policy = rules.policy
        policy.check_permission(active_worker=rules.active_worker)
        policy.check(self.urls, self.options.download_total)
        rules.check_upload(self.upload_total, self.options.download_total)

    @property
    def hosts(self) -> str:
        """The hosts that it asks, as ``schemas.queries`` searches them: the first."""
        found = dict.fromkeys(origin_of(url).partition("://")[2] for url in self.urls)
        told = " ".join(found)
        return told if len(told) <= MAX_HOSTS else told[:MAX_HOSTS].rpartition(" ")[0]

    @property
    def path(self) -> str:
        """The end of the path of its first URL; what follows it may be secret."""
        url = self.requests[0].url
        path = url[len(origin_of(url)) :]
        return re.split("[?#]", path, maxsplit=1)[0][-MAX_PATH:]

    @property
    def upload_total(self) -> int:
        """Bytes of the bodies that are known by now."""
        return sum(request.upload_total for request in self.requests)
