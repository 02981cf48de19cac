"""A background fetch that somebody asks for, before it is registered."""

from __future__ import annotations

from dataclasses import dataclass

from broker.policies import ScopeRules
from schemas.fetches import Priority
from schemas.options import FetchOptions
from schemas.requests import Request


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
    def upload_total(self) -> int:
        """Bytes of the bodies that are known by now."""
        return sum(request.upload_total for request in self.requests)
