"""Acting on each of many fetches, and counting what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from broker.connection import Connection
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.retrying import derived_token
from broker.settings import Settings
from broker.shared import Shared
from schemas.bulk import Action, BulkOutcome, Told
from schemas.errors import (
    BackgroundFetchError,
    DuplicateFetch,
    InvalidState,
    Unreachable,
)
from schemas.fetches import FetchState

MAX_TOLD = 20
"""Fetches of which an outcome tells why nothing was done to them."""


class Did(Enum):
    """What came of an action on one fetch."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class Managers:
    """One for each scope that is met."""

    def __init__(
        self, connection: Connection, settings: Settings, shared: Shared
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._shared = shared
        self._open: dict[str, BackgroundFetchManager] = {}

    def of(self, state: FetchState) -> BackgroundFetchRegistration:
        """The registration of a fetch."""
        manager = self._open.get(state.scope)
        if manager is None:
            manager = self._open[state.scope] = BackgroundFetchManager(
                self._connection,
                self._settings,
                state.scope,
                state.base_url,
                self._shared,
            )
        return manager.registration(state)

    async def aclose(self) -> None:
        """Close them."""
        for manager in self._open.values():
            await manager.aclose()


async def attempt(
    action: Action,
    registration: BackgroundFetchRegistration,
    about: Told,
    *,
    token: str,
    force: bool,
) -> tuple[Did, Told]:
    """Act on one fetch; what cannot be done is told, not raised.

    Raises:
        Unreachable: Redis does not answer.
    """
    try:
        changed = await _do(action, registration, token, force=force)
    except Unreachable:
        raise
    except (InvalidState, DuplicateFetch) as error:
        return Did.SKIPPED, about.model_copy(update={"error": str(error)})
    except BackgroundFetchError as error:
        return Did.FAILED, about.model_copy(update={"error": str(error)})
    return Did.DONE if changed else Did.SKIPPED, about


async def _do(
    action: Action,
    registration: BackgroundFetchRegistration,
    token: str,
    *,
    force: bool,
) -> bool:
    match action:
        case Action.ABORT:
            return await registration.abort(token=token)
        case Action.PAUSE:
            return await registration.pause(token=token)
        case Action.RESUME:
            return await registration.resume(token=token)
        case Action.RETRY:
            await registration.retry(token=derived_token(token, registration.uid))
        case Action.CLICK:
            await registration.click(token=token)
        case Action.RELEASE:
            await registration.release()
        case Action.FORGET:
            await registration.forget(force=force)
    return True


def counted(outcome: BulkOutcome, did: Iterable[tuple[Did, Told]]) -> BulkOutcome:
    """Add what came of some more fetches."""
    counts = {each: getattr(outcome, each.value) for each in Did}
    told = list(outcome.told)
    for what, about in did:
        counts[what] += 1
        if about.error and len(told) < MAX_TOLD:
            told.append(about)
    update = {each.value: count for each, count in counts.items()}
    return outcome.model_copy(update={**update, "told": tuple(told)})
