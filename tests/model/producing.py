"""What producers do, and what the specification says that they are answered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.keys import FetchKeys
from broker.registration import BackgroundFetchRegistration
from schemas.errors import DuplicateFetch, InvalidState
from schemas.requests import Request
from tests.model.ageing import HOUR
from tests.model.comparing import same
from tests.model.fetches import Fetch, Record
from tests.model.scope import Scope
from tests.model.world import World

_MOMENT = timedelta(0)


class Producing:
    """Producers of one scope; ``Fetch`` says which fetch a call is about."""

    def __init__(self, scope: Scope, world: World) -> None:
        self.scope = scope
        self.world = world

    async def fetch(
        self, id: str, bodies: list[bytes | None], total: int, hold: int
    ) -> None:
        """Register a fetch: with the id of an active one that is refused."""
        requests = [
            Request(f"/{n}", method="GET" if body is None else "POST", body=body)
            for n, body in enumerate(bodies)
        ]
        call = self.world.manager.fetch(
            id,
            requests,
            download_total=total,
            hold=timedelta(milliseconds=hold * HOUR),
        )
        if id in self.scope.active:
            with pytest.raises(DuplicateFetch):
                await call
            return
        made = await call
        records = [
            Record("GET" if body is None else "POST", len(body or b""))
            for body in bodies
        ]
        assert made.uid not in self.scope.fetches
        self.scope.fetch(made.uid, id, records, total, hold)
        self.world.registrations[made.uid] = made

    def _registration(self, fetch: Fetch) -> BackgroundFetchRegistration:
        return self.world.registrations[fetch.uid]

    async def get(self, id: str) -> None:
        """Find fetches, by their id too: the one object of each (BF-INST-01)."""
        same("ids", await self.world.manager.get_ids(), list(self.scope.active))
        listed = [state.uid for state in await self.world.manager.history()]
        same("history", listed[::-1], [each.uid for each in self.scope.retained])
        manager, uid = self.world.manager, self.scope.active.get(id)
        wanted = self.world.registrations[uid] if uid else None
        assert await manager.get(id) is wanted
        newest = self.scope.newest(id)
        found = await manager.find(id)
        assert found is (self.world.registrations[newest.uid] if newest else None)

    async def abort(self, fetch: Fetch) -> None:
        """Abort it, whatever has become of it."""
        answer = await self._registration(fetch).abort()
        same("abort", answer, self.scope.abort(fetch))

    async def click(self, fetch: Fetch) -> None:
        """Click it, also after its end."""
        try:
            event = (await self._registration(fetch).click()).event
        except InvalidState:
            same("click", None, self.scope.click(fetch))
        else:
            same("click", event, self.scope.click(fetch))

    async def pause(self, fetch: Fetch) -> None:
        """Pause it."""
        try:
            changed: bool | None = await self._registration(fetch).pause()
        except InvalidState:
            changed = None
        same("pause", changed, self.scope.pause(fetch))

    async def resume(self, fetch: Fetch) -> None:
        """Let it go on."""
        try:
            changed: bool | None = await self._registration(fetch).resume()
        except InvalidState:
            changed = None
        same("resume", changed, self.scope.resume(fetch))

    async def release(self, fetch: Fetch) -> None:
        """End the producer's hold."""
        try:
            await self._registration(fetch).release()
        except InvalidState:
            same("release", False, self.scope.release(fetch))
        else:
            same("release", True, self.scope.release(fetch))

    async def settled(self, fetch: Fetch) -> None:
        """Ask what became of the completion event; nobody waits here."""
        wanted = fetch.settlement()
        try:
            found = await self._registration(fetch).settled(_MOMENT)
        except TimeoutError:
            same("settled", None, wanted)
        except InvalidState:
            assert fetch.gone
        else:
            same("settled", found, wanted)

    async def match(self, fetch: Fetch, index: int) -> None:
        """Look at the records, or hear that they are released (BF-MATCH-01)."""
        registration = self._registration(fetch)
        try:
            await registration.refresh()
            found = await registration.match_all()
        except InvalidState:
            assert fetch.gone or not fetch.available
            return
        assert fetch.available
        same("records", len(found), len(fetch.records))
        at = index % len(found)
        record = await found[at].refresh()
        same("method", record.request.method, fetch.records[at].method)
        same("outcome", record.result, fetch.outcome(at))

    async def repeat(self, number: int) -> None:
        """A call of long ago is sent once more: nothing changes (R22)."""
        sent = self.world.connection.sent
        if sent:
            await self.world.connection.repeat(number % len(sent))

    def keys(self, fetch: Fetch) -> FetchKeys:
        """Where Redis has it."""
        return FetchKeys(self.world.manager.scope, fetch.uid)
