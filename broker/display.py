"""The display of a background fetch: how people see and click it (§ UI)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from broker.context import context
from broker.dispatch import Dispatch
from broker.keys import ScopeKeys, windows
from broker.live_state import LiveState
from schemas.errors import InvalidState
from schemas.events import WindowMessage
from schemas.names import check_client
from schemas.options import ImageResource, check_icons, check_title


class Display(LiveState):
    """What people see of one fetch, and what comes of their clicks."""

    async def click(self, *, client: str = "", token: str | None = None) -> Dispatch:
        """Publish ``backgroundfetchclick``, as a click on the display does.

        ``await dispatch.settled()`` tells what became of it. ``client`` is the id that
        a gateway gave to the screen that was clicked: the window that is opened for it
        is shown there alone, while it is connected. A call that repeats another one,
        told by the same ``token``, publishes nothing (R23).

        Raises:
            InvalidName: ``client`` is no such id.
            InvalidState: the fetch is no longer retained.
        """
        check_client(client)
        event = await self._owner.clicks.publish(self._keys, client, token)
        if not event:
            raise InvalidState(f"background fetch {self.id!r} is no longer retained")
        return Dispatch(self, self._owner.connection, event)

    async def present(
        self,
        *,
        title: str | None = None,
        icons: Iterable[ImageResource | Mapping[str, str]] | None = None,
    ) -> None:
        """Change the title or icons that people see; None leaves one as it is.

        Raises:
            InvalidOptions: ``title`` or ``icons`` have the wrong form.
        """
        fields: list[str] = []
        if title is not None:
            fields += ["title", check_title(title)]
        if icons is not None:
            shown = [icon.model_dump() for icon in check_icons(icons)]
            fields += ["icons", json.dumps(shown)]
        if fields:
            keys, arguments = context(self._keys, self._owner.settings)
            await self._owner.connection.run("present", keys, [*arguments, *fields])

    async def open_window(self, event: str, url: str) -> bool:
        """Show a link to the clients of this fetch, once for each click ``event``.

        False if that click has opened another window (§ openWindow).
        """
        clicked: bytes | None = await self._owner.connection.ask(
            "HGET", self._keys.tokens, f"client:{event}"
        )
        client = clicked.decode() if clicked else ""
        message = WindowMessage(
            uid=self.uid,
            id=self.id,
            event=event,
            url=url,
            scope=self.scope,
            client=client,
        )
        process = client.partition(".")[0]
        opened = await self._owner.connection.run(
            "window",
            [self._keys.fetch, self._keys.tokens],
            [
                event,
                url,
                ScopeKeys(self.scope).clients,
                message.encode(),
                windows(process) if process else "",
            ],
        )
        return bool(opened)

    async def dispatched(self, event: str) -> Dispatch | None:
        """Return an event of this fetch by its name, or None if there is none."""
        about = await self._owner.connection.ask("HGET", self._keys.events, event)
        if about is None or "|" in event:  # what became of it at somebody
            return None
        return Dispatch(self, self._owner.connection, event)
