"""The scenarios that both sides play, and the origin that both play them on.

``scenarios.toml`` tells each once, as data: what the origin serves, what the page does
step by step, and what the service worker does in its listener. A step's ``do`` says
what; ``as`` names it in the trace, where it may not be told apart otherwise. A *trace*
has for each step what came of it: ``{"resolved": value}`` or ``{"rejected": name}``.
"""

from __future__ import annotations

import asyncio
import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workers.demo.origin import Origin

HERE = Path(__file__).parent
PATIENCE_SECONDS = 60
"""How long any one step may take."""

Step = dict[str, Any]
Trace = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story to be told twice."""

    name: str
    about: str
    page: tuple[Step, ...]
    serves: tuple[dict[str, Any], ...] = ()
    worker: tuple[Step, ...] = ()


class Player(Protocol):
    """One side: carries out the steps that are not the origin's."""

    async def play(self, step: Step) -> Trace:
        """Carry out a step of the page; return what came of it."""


def load() -> dict[str, Scenario]:
    """Read the scenarios."""
    told = tomllib.loads((HERE / "scenarios.toml").read_text())
    return {
        name: Scenario(
            name,
            parts["about"],
            tuple(parts["page"]),
            tuple(parts.get("serves", ())),
            tuple(parts.get("worker", ())),
        )
        for name, parts in told.items()
    }


def label(step: Step) -> str:
    """What a step is called in its trace."""
    return str(step.get("as", step["do"]))


def digest(body: bytes) -> str:
    """A body in a trace."""
    return f"{len(body)} bytes, {hashlib.sha256(body).hexdigest()[:16]}"


class Stage:
    """The origin as one scenario wants it; relative URLs resolve against ``base``."""

    def __init__(self, origin: Origin, scenario: Scenario) -> None:
        self._origin = origin
        self._scenario = scenario
        self.name = scenario.name
        self._prefix = f"/{scenario.name}/"
        self.base = origin.url(self._prefix)
        self._held: dict[str, asyncio.Event] = {}
        for resource in scenario.serves:
            self._serve(**resource)

    def _serve(
        self, path: str, size: int, hold_after: int | None = None, **options: Any
    ) -> None:
        if hold_after is not None:
            options |= {"hold": asyncio.Event(), "hold_after": hold_after}
            self._held[path] = options["hold"]
        pattern = f"{path} of {self._scenario.name};".encode()
        body = (pattern * (size // len(pattern) + 1))[:size]
        self._origin.add(self._prefix + path, body, **options)

    async def play(self, player: Player) -> Trace:
        """Play the scenario; the origin's own steps are carried out here."""
        trace: Trace = {}
        try:
            for step in self._scenario.page:
                assert label(step) not in trace, f"name this step: {step}"
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await self._step(step, player, trace)
                except TimeoutError as error:
                    place = f"{self.name}/{label(step)}"
                    raise TimeoutError(f"{place} did not end") from error
        finally:
            for held in self._held.values():
                held.set()
        return trace

    async def _step(self, step: Step, player: Player, trace: Trace) -> None:
        match step["do"]:
            case "release":
                self._held[step["path"]].set()
            case "arrived":
                await self._arrived(step["path"])
            case "log":
                trace[label(step)] = self._log(step["path"])
            case _:
                trace[label(step)] = await player.play(step)

    async def _arrived(self, path: str) -> None:
        while not self._log(path):  # noqa: ASYNC110 - the origin's log tells nobody
            await asyncio.sleep(0.01)

    def _log(self, path: str) -> list[Trace]:
        """The requests for a path, as the origin saw them."""
        return [
            {
                "method": seen.method,
                "body": digest(seen.body),
                "headers": {
                    name: seen.headers[name]
                    for name in ("range", "if-range", "accept-encoding")
                    if name in seen.headers
                },
            }
            for seen in self._origin.log
            if seen.path == self._prefix + path
        ]
