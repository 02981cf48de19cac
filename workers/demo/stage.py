"""Everything that the story needs, set up and taken down round it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from workers.demo.catalogue import Catalogue, Plan
from workers.demo.checks import Copy, Facts
from workers.demo.children import Crew
from workers.demo.lookout import Delivered, Lookout, Watched
from workers.demo.origin import Origin
from workers.demo.podcasts import sw
from workers.demo.rows import bar
from workers.demo.screen import BUSY, PLAIN, Screen
from workers.demo.windows import windows


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the story is told."""

    reading: float
    """Seconds to read a sentence."""
    rate: int
    """Bytes a second of the origin."""


UNATTENDED = Pace(reading=0, rate=4_500_000)
FOR_PEOPLE = Pace(reading=2.2, rate=1_500_000)


@dataclass(slots=True)
class Stage:
    """What the steps of the story work with, and what they leave for the checks."""

    manager: BackgroundFetchManager
    origin: Origin
    catalogue: Catalogue
    crew: Crew
    screen: Screen
    pace: Pace
    windows: Mapping[tuple[str, str], str]
    """The link of each click, once a listener asked for one."""
    facts: Facts = field(default_factory=Facts)
    copies: dict[str, list[Copy]] = field(default_factory=dict)
    lookout: Lookout = field(init=False)
    _explained: bool = False

    def __post_init__(self) -> None:
        self.lookout = Lookout(
            self.manager, self.origin, self.crew, self._acknowledged, self._looked
        )

    async def say(
        self, subject: str, what: str, why: str = "", style: str = PLAIN
    ) -> None:
        """Tell a step, and leave the time to read it."""
        self.screen.tell(subject, what, why, style)
        await asyncio.sleep(self.pace.reading)

    def watched(self, plan: Plan) -> Watched:
        """The fetch of a plan."""
        return self.lookout.fetches[plan.id]

    async def until_ended(self, plan: Plan) -> None:
        """Return once the fetch has a result, and its event is acknowledged.

        Raises:
            Stuck: it does not come to that.
        """
        watched = self.watched(plan)
        await self.lookout.until(
            lambda: watched.ended,
            f"{plan.id} has ended and its event is acknowledged",
        )

    def _acknowledged(self, watched: Watched, event: Delivered) -> None:
        why = "Unacknowledged it would come again, elsewhere if need be."
        again = f" at attempt {event.attempt}" if event.attempt > 1 else ""
        self.screen.tell(
            "event",
            f"{event.type} of {watched.plan.id}, acknowledged by "
            f"{event.subscriber}{again}.",
            "" if self._explained else why,
            BUSY,
        )
        self._explained = True

    def _looked(self) -> None:
        fetches = self.lookout.fetches.values()
        self.screen.show([bar(watched, self.crew.members) for watched in fetches])


@asynccontextmanager
async def staged(
    redis_url: str, directory: Path, screen: Screen, pace: Pace
) -> AsyncIterator[Stage]:
    """Set up a stage in ``directory``; afterwards nothing of it is left running."""
    values = {
        "redis_url": redis_url,
        "store": str(directory / "store"),
        "allow_networks": "loopback",
        "lease": "2",
        "backoff": "0.2",
        "grace": "5",
    }
    # No setting from outside: the demo is the same everywhere.
    settings = Settings(_env_prefix="BGFETCH_DEMO_", **values)  # type: ignore[arg-type]
    crew = Crew(directory, {f"BGFETCH_{k.upper()}": v for k, v in values.items()})
    catalogue = Catalogue(pace.rate)
    async with Origin() as origin:
        catalogue.stock(origin)
        async with (
            connect(
                scope=sw.scope, base_url=origin.url("/"), settings=settings
            ) as manager,
            windows(manager) as opened,
        ):
            stage = Stage(manager, origin, catalogue, crew, screen, pace, opened)
            try:
                yield stage
            finally:
                await crew.stop()
