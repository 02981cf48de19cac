"""``--type``, ``--id`` and ``--start``: which events a subscriber takes (R21)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.options import parsed
from broker.cli.quantities import parse_moment

if TYPE_CHECKING:
    from workers.service_worker import ServiceWorker

Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="take events of this type; 'fail' is enough (repeatable)",
        show_default=False,
    ),
]
IdPattern = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="PATTERN",
        help="take events of fetches with such an id: * stands for any characters, "
        "the rest for itself, as in 'ep-*'",
        show_default=False,
    ),
]
StartAt = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="WHERE",
        help="where a new subscriber begins: 'new', 'all' that is still there, how "
        "long ago, as 2h, or a time in ISO 8601; older events are not owed to it",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """What the command line says instead of the service worker."""

    types: list[str] | None
    ids: str | None
    start: str | None

    def told(self) -> list[str]:
        """The same as arguments."""
        told = [f"--type={name}" for name in self.types or ()]
        told += [f"--id={self.ids}"] if self.ids is not None else []
        return told + ([f"--start={self.start}"] if self.start is not None else [])

    def apply(self, service_worker: ServiceWorker) -> None:
        """Change the service worker as told.

        Raises:
            ConfigError: there is no such event, or ``ids`` is no pattern.
            typer.BadParameter: ``start`` is no time.
        """
        from schemas.filters import EventFilter

        takes = service_worker.takes
        service_worker.takes = EventFilter.of(
            self.types or takes.types, takes.ids if self.ids is None else self.ids
        )
        match self.start:
            case None:
                pass
            case "new" | "all" as named:
                service_worker.start = named
            case text:
                service_worker.start = parsed(parse_moment)(text)
