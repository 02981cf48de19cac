"""``/metrics`` for Prometheus: what Redis has counted, of all processes together."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric
from prometheus_client.core import SummaryMetricFamily as Summary
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from typing_extensions import override

from broker.gateway.access import Role, needs
from broker.gateway.gateway import OurGateway
from broker.measures import Measures, measure

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    dependencies=[needs(Role.VIEWER)],
    response_class=Response,
    responses={HTTPStatus.OK: {"content": {"text/plain": {}}}},
)
async def get_metrics(gateway: OurGateway) -> Response:
    """Return every measure in the text format of Prometheus.

    Counts begin with a scope and go on through restarts of any process; any gateway on
    the same Redis tells the same, so that one of them is scraped.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(await measure(gateway.connection)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Told(Collector):
    """What was measured, as families of metrics."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._done()
        yield from self._standing()
        yield from self._subscribers()
        yield from self._fleet()

    def _done(self) -> Iterator[Metric]:
        registered = Counter(
            "bgfetch_fetches_registered", "Background fetches", labels=["scope"]
        )
        ended = Counter(
            "bgfetch_fetches_ended",
            "Background fetches that ended, by success or failure reason",
            labels=["scope", "outcome"],
        )
        lasted = Summary(
            "bgfetch_fetch_duration_seconds",
            "Time from registration to the end of a background fetch",
            labels=["scope"],
        )
        down = Counter(
            "bgfetch_downloaded_bytes", "Bytes of responses stored", labels=["scope"]
        )
        up = Counter(
            "bgfetch_uploaded_bytes", "Bytes of request bodies sent", labels=["scope"]
        )
        for one in self._measures.scopes:
            registered.add_metric([one.scope], one.registered)
            for outcome, number in one.ended.items():
                ended.add_metric([one.scope, outcome], number)
            lasted.add_metric([one.scope], sum(one.ended.values()), one.ended_after)
            down.add_metric([one.scope], one.downloaded)
            up.add_metric([one.scope], one.uploaded)
        yield from (registered, ended, lasted, down, up)

    def _standing(self) -> Iterator[Metric]:
        active = Gauge(
            "bgfetch_fetches_active", "Background fetches not ended", labels=["scope"]
        )
        retained = Gauge(
            "bgfetch_fetches_retained",
            "Background fetches that are listed, ended ones included",
            labels=["scope"],
        )
        waiting = Gauge(
            "bgfetch_lanes_waiting",
            "Lane jobs in the scope's line for a place in RQ",
            labels=["scope", "priority"],
        )
        for one in self._measures.scopes:
            active.add_metric([one.scope], one.active)
            retained.add_metric([one.scope], one.retained)
            for priority, number in one.waiting.items():
                waiting.add_metric([one.scope, str(priority)], number)
        yield from (active, retained, waiting)

    def _subscribers(self) -> Iterator[Metric]:
        published = Counter(
            "bgfetch_events_published", "Lifecycle events", labels=["scope"]
        )
        settled = Counter(
            "bgfetch_deliveries",
            "Deliveries by outcome; one that is dead may get another later",
            labels=["scope", "outcome"],
        )
        failed = Counter(
            "bgfetch_attempts_failed",
            "Attempts to handle an event that failed",
            labels=["scope"],
        )
        each = ["scope", "subscriber"]
        lag = Gauge("bgfetch_subscriber_lag", "Events not read yet", labels=each)
        pending = Gauge("bgfetch_subscriber_pending", "Deliveries in hand", labels=each)
        waiting = Gauge(
            "bgfetch_subscriber_waiting", "Deliveries that wait to go on", labels=each
        )
        dead = Gauge("bgfetch_subscriber_dead", "Dead letters", labels=each)
        processes = Gauge("bgfetch_subscriber_processes", "Processes", labels=each)
        oldest = Gauge(
            "bgfetch_subscriber_oldest_seconds",
            "Age of the oldest event that is not settled; 0 if all are",
            labels=each,
        )
        for one in self._measures.scopes:
            published.add_metric([one.scope], one.published)
            for outcome, number in one.deliveries.items():
                settled.add_metric([one.scope, outcome], number)
            failed.add_metric([one.scope], one.attempts_failed)
            for look in one.subscribers:
                names = [one.scope, look.name]
                lag.add_metric(names, look.lag)
                pending.add_metric(names, look.pending)
                waiting.add_metric(names, look.waiting)
                dead.add_metric(names, look.dead)
                processes.add_metric(names, look.processes)
                age = look.oldest.total_seconds() if look.oldest else 0.0
                oldest.add_metric(names, age)
        yield from (published, settled, failed)
        yield from (lag, pending, waiting, dead, processes, oldest)

    def _fleet(self) -> Iterator[Metric]:
        queued = Gauge(
            "bgfetch_jobs_queued",
            "Lane jobs in RQ that no worker has",
            labels=["queue"],
        )
        for queue, number in self._measures.queued.items():
            queued.add_metric([queue], number)
        processes = Gauge("bgfetch_processes", "Processes that live", labels=["role"])
        for role in ("worker", "subscriber", "gateway"):
            processes.add_metric([role], self._measures.processes.get(role, 0))
        origins = Gauge(
            "bgfetch_origins", "Origins in use, and those held back", labels=["state"]
        )
        origins.add_metric(["known"], self._measures.origins)
        origins.add_metric(["paused"], self._measures.origins_paused)
        origins.add_metric(["lowered"], self._measures.origins_lowered)
        yield from (queued, processes, origins)
