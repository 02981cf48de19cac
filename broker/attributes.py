"""The attributes of a registration, as the process knows them now (§ update)."""

from __future__ import annotations

from typing_extensions import override

from schemas.fetches import FailureReason, FetchState, Result
from schemas.options import ImageResource


class Attributes:
    """Copies of a fetch's state; reading one does no I/O (BF-INST-03)."""

    def __init__(self, state: FetchState) -> None:
        self._state = state

    @override
    def __repr__(self) -> str:
        state = self._state
        outcome = state.failure_reason or state.result or "active"
        return f"<{type(self).__name__} {state.scope}/{state.id} {outcome}>"

    @property
    def id(self) -> str:
        """The caller's id, unique among the scope's active fetches."""
        return self._state.id

    @property
    def uid(self) -> str:
        """Our name for this fetch, unique for ever."""
        return self._state.uid

    @property
    def scope(self) -> str:
        """The scope that owns this fetch."""
        return self._state.scope

    @property
    def title(self) -> str:
        """The title shown to people."""
        return self._state.title

    @property
    def icons(self) -> tuple[ImageResource, ...]:
        """The icons shown to people."""
        return self._state.icons

    @property
    def upload_total(self) -> int:
        """Bytes of all request bodies."""
        return self._state.upload_total

    @property
    def uploaded(self) -> int:
        """Bytes of request bodies that were sent."""
        return self._state.uploaded

    @property
    def download_total(self) -> int:
        """Bytes that the caller expects and will not exceed; 0 means unknown."""
        return self._state.download_total

    @property
    def downloaded(self) -> int:
        """Bytes of responses that are stored now; may fall when a record restarts."""
        return self._state.downloaded

    @property
    def result(self) -> Result:
        """``""`` while active, then ``"success"`` or ``"failure"``."""
        return self._state.result

    @property
    def failure_reason(self) -> FailureReason:
        """Why the fetch failed; ``""`` unless it did."""
        return self._state.failure_reason

    @property
    def paused(self) -> bool:
        """Whether no request is sent until ``resume()``."""
        return self._state.paused

    @property
    def records_available(self) -> bool:
        """Whether ``match`` and ``match_all`` can be used."""
        return self._state.records_available

    @property
    def state(self) -> FetchState:
        """All of the above as one message, for ``--json`` and other processes."""
        return self._state
