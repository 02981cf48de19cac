"""``progress`` events at a registration: who listens, and how they are called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from broker.attributes import Attributes
from schemas.fetches import FetchState, Result
from schemas.listeners import ListenerList

log = structlog.get_logger()

ProgressListener = Callable[["ProgressEvent"], object]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The plain ``progress`` event: ``target`` has the new values (BF-PROG-07)."""

    target: ProgressTarget
    type: str = "progress"


class ProgressTarget(Attributes):
    """A registration as an event target (BF-IDL-07).

    Listeners are called as in the DOM: in the order in which they were added, the
    handler slot where it was first set. One that raises is logged and stops no other;
    an ``async def`` one runs beside whatever comes next.
    """

    def __init__(self, state: FetchState, listening: set[ProgressTarget]) -> None:
        """In ``listening`` an active fetch lives as long as somebody listens."""
        super().__init__(state)
        self._listening = listening
        self._listeners: ListenerList[ProgressListener] = ListenerList()
        self._tasks: set[asyncio.Future[object]] = set()

    @property
    def onprogress(self) -> ProgressListener | None:
        """The handler slot for ``progress`` events."""
        return self._listeners.slot

    @onprogress.setter
    def onprogress(self, listener: ProgressListener | None) -> None:
        self._listeners.slot = listener
        self._keep()

    def add_event_listener(
        self, type: str, listener: ProgressListener, *, once: bool = False
    ) -> None:
        """Call ``listener`` with each ``progress`` event, or ``once``.

        Adding it twice is once. There are no other events here; their listeners are
        never called.
        """
        if type == "progress":
            self._listeners.add(listener, once=once)
            self._keep()

    def remove_event_listener(self, type: str, listener: ProgressListener) -> None:
        """Undo ``add_event_listener``; unknown listeners are ignored."""
        if type == "progress":
            self._listeners.remove(listener)
            self._keep()

    def _keep(self) -> None:
        """Stay in memory while there may be something to tell, else only if used."""
        if self._listeners and self._state.result is Result.ACTIVE:
            self._listening.add(self)
        else:
            self._listening.discard(self)

    def _dispatch(self) -> None:
        event = ProgressEvent(self)
        for listener in self._listeners.calls():
            try:
                returned = listener(event)
            except Exception:  # stops neither the others nor us (BF-EVT-11)
                log.exception("progress_listener_raised", id=self.id)
                continue
            if inspect.isawaitable(returned):
                task = asyncio.ensure_future(returned)
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        self._keep()

    def _ended(self, task: asyncio.Future[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("progress_listener_raised", id=self.id, exc_info=error)
