"""Processes, queues, origins and actions as the API shows them."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field

from broker.gateway.audit import Action
from broker.gateway.views import View
from broker.origins import OriginLook
from broker.plain import iso, origin_as_plain
from broker.processes import ProcessLook
from broker.queue import WorkerLook


class ProcessView(View):
    """A process of ours that lives."""

    role: str = Field(description="worker, subscriber or gateway")
    name: str = Field(examples=["host-1:4711:9f8e7d6c"])
    host: str
    pid: int | None
    subscriber: str = Field(description="<scope>/<name> of a subscriber's; else empty")
    heartbeat_age: float = Field(description="seconds since it told that it lives")

    @classmethod
    def of(cls, look: ProcessLook, lease: timedelta) -> Self:
        """Show a process whose lease is ``lease`` long."""
        process = look.process
        return cls(
            role=process.role,
            name=process.name,
            host=process.host,
            pid=process.pid,
            subscriber=process.subscriber,
            heartbeat_age=max(0.0, (lease - look.left).total_seconds()),
        )


class WorkerView(View):
    """A worker as RQ knows it."""

    name: str
    host: str
    pid: int | None
    state: str = Field(examples=["busy"])
    job: str | None = Field(description="the id of the RQ job that it runs")
    what: str = Field(description="the lane that job is", examples=["podcasts ep-5"])
    heartbeat_at: str | None

    @classmethod
    def of(cls, look: WorkerLook) -> Self:
        """Show a worker."""
        return cls(
            name=look.name,
            host=look.host,
            pid=look.pid,
            state=look.state,
            job=look.job,
            what=look.what,
            heartbeat_at=look.heartbeat_at,
        )


class ProcessesView(View):
    """Who works here."""

    processes: list[ProcessView]
    workers: list[WorkerView]


class QueueView(View):
    """A queue of RQ."""

    name: str
    waiting: int = Field(description="lanes that wait for a worker")


class QueuesView(View):
    """The queues, the most urgent first."""

    items: list[QueueView]


class OriginView(View):
    """How all workers together stand with an origin."""

    origin: str = Field(examples=["https://cdn.example"])
    in_use: int = Field(description="exchanges that run")
    processes: int
    limit: int = Field(description="exchanges that may run")
    base: int = Field(description="the same when all is well")
    rate: float | None = Field(description="requests a second; null: any")
    paused_until: str | None
    lowered_at: str | None
    reason: str = Field(description="why it is asked less than usual; else empty")

    @classmethod
    def of(cls, look: OriginLook) -> Self:
        """Show an origin."""
        return cls.model_validate(origin_as_plain(look))


class OriginsView(View):
    """Every origin that is used or remembered, at most 1,000, by name."""

    items: list[OriginView]


class ActionView(View):
    """A write that somebody sent, and how it was answered."""

    at: str | None
    who: str = Field(description="the account; empty where none was proved")
    address: str = Field(description="where it came from")
    method: str = Field(examples=["POST"])
    path: str
    status: int = Field(description="of the answer", examples=[201])

    @classmethod
    def of(cls, action: Action) -> Self:
        """Show an action."""
        return cls(
            at=iso(action.at),
            who=action.who,
            address=action.address,
            method=action.method,
            path=action.path,
            status=action.status,
        )


class ActionsView(View):
    """Who did what, the newest first."""

    items: list[ActionView]
