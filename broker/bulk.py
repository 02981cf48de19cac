"""One action on all fetches that a filter matches, however many there are.

It goes through the lists of the states in which the action makes sense, a batch at a
time. What a batch is to do is written down before it is done, under the caller's token,
which stands for each act as well. Whoever calls again with it, after whatever crash,
goes on where it stopped, does nothing twice and counts nothing twice (R23). Fetches
that are registered after the first call are left alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from broker.acting import Did, Managers, attempt, counted
from broker.connection import Connection
from broker.keys import FetchKeys, bulk
from broker.listing import Listing
from broker.settings import Settings, milliseconds
from broker.shared import Shared
from schemas.bulk import STATES, Action, BulkOutcome, Told
from schemas.errors import InvalidFilter
from schemas.fetches import FetchState
from schemas.messages import Many, Message
from schemas.queries import EVERYTHING, FetchFilter, ListedState

BATCH = 100
"""Fetches that are acted on between two times of writing down how far it has come."""
AT_ONCE = 20
KEPT = timedelta(days=1)
"""How long a token stands for its call."""


class Progress(Message):
    """How far a call has come, as it is written down."""

    outcome: BulkOutcome = BulkOutcome()
    step: int = 0
    newest: str
    """Where every list begins: nothing that was registered later is before that."""
    state: int = 0
    """Which of the states is gone through."""
    cursor: str | None = None
    batch: Many[str] = ()
    """The names of the fetches that are acted on next."""


@dataclass(frozen=True, slots=True)
class _Call:
    action: Action
    filter: FetchFilter
    states: Sequence[ListedState]
    force: bool
    token: str

    @property
    def key(self) -> str:
        return bulk(hashlib.sha256(self.token.encode()).hexdigest()[:32])

    @property
    def fingerprint(self) -> str:
        return f"{self.action} {int(self.force)} {self.filter}"


class Bulk:
    """Acts on many fetches of one Redis."""

    def __init__(
        self, connection: Connection, settings: Settings, shared: Shared | None = None
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._listing = Listing(connection, settings)
        self._shared = shared

    async def run(
        self,
        action: Action,
        filter: FetchFilter = EVERYTHING,
        *,
        force: bool = False,
        token: str | None = None,
        progress: Callable[[BulkOutcome], object] | None = None,
    ) -> BulkOutcome:
        """Do ``action`` to every fetch that ``filter`` matches.

        A call that repeats another one within a day, told by the same ``token``, goes
        on where that stopped, or has its answer. ``force`` is that of ``forget()``.
        ``progress`` hears how far it is after each batch.

        Raises:
            InvalidFilter: the action makes no sense in the state that is asked for, or
                the token was given with another action or filter.
            Unreachable: Redis does not answer; the same token goes on.
        """
        states = _states(action, filter.state)
        token = token or secrets.token_hex(16)
        call = _Call(action, filter, states, force, token)
        newest = await self._listing.newest(filter.scope)
        at = await self._write(call, Progress(newest=newest))
        shared = self._shared or Shared.of(self._connection, self._settings)
        managers = Managers(self._connection, self._settings, shared)
        try:
            while not at.outcome.finished:
                at = await self._write(call, await self._step(call, at, managers))
                if progress is not None:
                    progress(at.outcome)
        finally:
            await managers.aclose()
            if self._shared is None:
                await shared.aclose()
        return at.outcome

    async def _write(self, call: _Call, progress: Progress) -> Progress:
        """Write down a step; return how far the call is, by whoever carries it out."""
        verdict, known = await self._connection.run(
            "bulk",
            [call.key],
            [call.fingerprint, progress.step, progress.encode(), milliseconds(KEPT)],
        )
        if verdict == b"other":
            raise InvalidFilter(
                f"the token {call.token!r} stands for another action or filter: "
                "use a new one"
            )
        return Progress.decode(known)

    async def _step(self, call: _Call, at: Progress, managers: Managers) -> Progress:
        """Act on the batch that is written down, and find the next one."""
        outcome = await self._act(call, at, managers)
        if at.state >= len(call.states):
            return at.model_copy(
                update={
                    "step": at.step + 1,
                    "batch": (),
                    "outcome": outcome.model_copy(update={"finished": True}),
                }
            )
        page = await self._listing.page(
            filter=replace(call.filter, state=call.states[at.state]),
            cursor=at.cursor or at.newest,
            limit=BATCH,
        )
        found = {"matched": outcome.matched + len(page.items)}
        found["examined"] = outcome.examined + page.examined
        return at.model_copy(
            update={
                "step": at.step + 1,
                "state": at.state + page.exhausted,
                "cursor": page.cursor,
                "batch": tuple(FetchKeys(s.scope, s.uid).member for s in page.items),
                "outcome": outcome.model_copy(update=found),
            }
        )

    async def _act(self, call: _Call, at: Progress, managers: Managers) -> BulkOutcome:
        keys = [FetchKeys(*member.split("/", 1)) for member in at.batch]
        rows = await self._connection.ask_all(("HGETALL", each.fetch) for each in keys)
        gate = asyncio.Semaphore(AT_ONCE)

        async def act(keys: FetchKeys, row: dict[bytes, bytes]) -> tuple[Did, Told]:
            state = FetchState.found(row)
            about = Told(scope=keys.scope, uid=keys.uid, id=state.id if state else "")
            if state is None:
                gone = call.action is Action.FORGET
                return Did.DONE if gone else Did.SKIPPED, about
            async with gate:
                return await attempt(
                    call.action,
                    managers.of(state),
                    about,
                    token=call.token,
                    force=call.force,
                )

        acts = [act(*each) for each in zip(keys, rows, strict=True)]
        # All come to an end before the first that failed is told.
        ended = await asyncio.gather(*acts, return_exceptions=True)
        did = []
        for each in ended:
            if isinstance(each, BaseException):
                raise each
            did.append(each)
        return counted(at.outcome, did)


_ENDED = STATES[Action.FORGET]


def _states(action: Action, asked: ListedState | None) -> tuple[ListedState, ...]:
    possible = STATES[action]
    if asked is None:
        return possible
    sensible = {*possible, *((ListedState.AWAITING,) if possible[-1] in _ENDED else ())}
    if asked not in sensible:
        raise InvalidFilter(
            f"'state:{asked}': {action} is for fetches that are {' or '.join(possible)}"
        )
    return (asked,)
