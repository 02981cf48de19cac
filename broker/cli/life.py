"""What happened to a fetch, as ``bgfetch get --timeline`` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.cli.output import table
from broker.plain import iso

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from schemas.fetches import FetchState
    from schemas.timelines import DeliveryLook, Moment


@dataclass(frozen=True, slots=True)
class Life:
    """The moments of a fetch, and how its events stand at each subscriber."""

    moments: tuple[Moment, ...]
    looks: tuple[DeliveryLook, ...]

    def as_json(self) -> dict[str, Any]:
        """With the names of the messages; times in ISO 8601."""
        moments = [
            each.model_dump(mode="json") | {"at": iso(each.at)} for each in self.moments
        ]
        looks = [
            each.model_dump(mode="json")
            | {
                "publishedAt": iso(each.published_at),
                "heldUntil": iso(each.held_until or 0),
                "dueAt": iso(each.due_at or 0),
            }
            for each in self.looks
        ]
        return {"timeline": moments, "deliveries": looks}

    def put(self) -> None:
        """Print them."""
        rows = [
            (
                iso(each.at) or "",
                each.what,
                " ".join(filter(None, (each.event, each.subscriber, each.detail))),
            )
            for each in self.moments
        ]
        table(("at", "what", "detail"), rows)
        if self.looks:
            columns = ("event", "subscriber", "state", "attempt", "failures", "next")
            table(columns, [_row(each) for each in self.looks])


def _row(look: DeliveryLook) -> tuple[str, ...]:
    due = f"due {iso(look.due_at)}" if look.due_at else ""
    held = f"held by {look.holder}" if look.held_until else ""
    numbers = str(look.attempt), str(look.failures)
    return (look.event, look.subscriber, look.state, *numbers, due or held)


async def life_of(manager: BackgroundFetchManager, state: FetchState) -> Life:
    """Ask what happened to a fetch."""
    from broker.delivery_looks import look_at_deliveries
    from broker.keys import FetchKeys
    from broker.timeline import timeline

    keys = FetchKeys(state.scope, state.uid)
    connection, settings = manager.connection, manager.settings
    return Life(
        await timeline(connection, keys),
        await look_at_deliveries(connection, settings, keys),
    )
