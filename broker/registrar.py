"""Registering a fetch whole or not at all, its wish for work included (§ fetch).

Bodies go to the blob store, requests into a staged hash with a TTL; one script makes
them an active background fetch (R22). What is left of a producer that dies before it is
forgotten by Redis and swept from the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from broker.bodies import Deposit, named_bodies, travels
from broker.connection import Connection
from broker.context import context
from broker.keys import SCOPES, FetchKeys, ScopeKeys
from broker.orders import Order
from broker.places import described, places
from broker.policies import POLICY, RULES, ScopeRules, read_rules
from broker.queue import JobQueue, LaneJob
from broker.records import RecordReader
from broker.settings import Settings, milliseconds
from schemas.bodies import BodyStream
from schemas.errors import (
    DuplicateFetch,
    Failure,
    InvalidState,
    NotAllowed,
    QuotaExceeded,
    RejectedFetch,
    Unreachable,
)
from schemas.fetches import FetchState, Priority
from schemas.names import new_uid
from schemas.options import FetchOptions
from schemas.policies import Permission, ScopePolicy
from schemas.requests import Request
from schemas.urls import check_address, origin_of

log = structlog.get_logger()

STAGE_SIZE = 500
"""Requests in one command while a registration is staged."""
STAGE_TTL = timedelta(minutes=10)


class Registrar:
    """Registers the fetches of one scope."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        scope: ScopeKeys,
        base_url: str,
        *,
        reader: RecordReader,
        queue: JobQueue,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._scope = scope
        self._base_url = base_url
        self._reader = reader
        self._queue = queue

    def order(
        self,
        id: str,
        requests: str | Request | Iterable[str | Request],
        options: FetchOptions,
        priority: Priority,
    ) -> Order:
        """Check every request before anything is stored (BF-FETCH-07).

        Raises:
            RejectedFetch: there is none, or one cannot be sent.
        """
        items = [requests] if isinstance(requests, str | Request) else requests
        checked: list[Request] = []
        origins: dict[str, str] = {}
        for item in items:
            request = Request.of(item).resolve(self._base_url)
            if (origin := origin_of(request.url)) not in origins:
                check_address(request.url, self._settings.allow_networks)
                origins[origin] = request.url
            if isinstance(request.body, BodyStream):
                request.body.check()
            checked.append(request)
        if not checked:
            raise RejectedFetch("at least one request must be given, got none")
        return Order(id, checked, list(origins.values()), options, priority)

    async def register(self, order: Order, uid: str) -> FetchState:
        """Make ``order`` an active fetch with this uid, and want its work.

        If there is a fetch with this uid it is returned as it is: somebody has made
        this very call before (R23).

        Raises what ``BackgroundFetchManager.fetch`` raises.
        """
        keys, staging = self._scope.fetch(uid), self._scope.fetch(new_uid())
        async with Deposit(self._reader) as deposit:
            if any(not travels(request) for request in order.requests):
                # Nobody waits for gigabytes only to hear this.
                rules = await self._foresee(order)
                await deposit.store(order.requests, rules.check_upload)
            try:
                rules = await self._stage(staging, order.requests)
                order.check(rules)
                deposit.offered = True
                state, jobs = await self._commit(keys, staging, order, rules.policy)
            except (RejectedFetch, NotAllowed, QuotaExceeded):
                with suppress(Unreachable):  # then Redis forgets it in a while
                    await self._connection.ask("UNLINK", staging.staged, staging.bodies)
                raise
        await self._enqueue(state, jobs, order.priority)
        return state

    async def _foresee(self, order: Order) -> ScopeRules:
        """Raise what the registration would be refused with by now."""
        rules = await read_rules(self._connection, self._scope.scope)
        order.check(rules)
        if await self._connection.ask("HEXISTS", self._scope.active, order.id):
            raise self._duplicate(order.id)
        return rules

    def _duplicate(self, id: str) -> DuplicateFetch:
        return DuplicateFetch(
            f"scope {self._scope.scope!r} already has an active fetch {id!r}"
        )

    async def _stage(self, keys: FetchKeys, requests: Sequence[Request]) -> ScopeRules:
        """Store the requests; return the scope's rules, read on the same way."""
        row: Sequence[bytes | None] = ()
        for start in range(0, len(requests), STAGE_SIZE):
            batch = list(enumerate(requests[start : start + STAGE_SIZE], start))
            rows = {at: each.encode() for at, each in batch}
            *_, row = await self._connection.ask_all(
                [
                    *_kept_a_while(keys.staged, rows),
                    *_kept_a_while(keys.bodies, named_bodies(batch)),
                    ("HMGET", self._scope.scope_hash, *RULES),
                ]
            )
        return ScopeRules.of(row)

    def _fields(
        self, keys: FetchKeys, order: Order, policy: ScopePolicy
    ) -> dict[str, str | int]:
        """What the hash of the registration says from the start."""
        options, waits = order.options, int(policy.permission is Permission.PROMPT)
        return {
            "id": order.id,
            "uid": keys.uid,
            "scope": keys.scope,
            "title": options.title,
            "icons": json.dumps([icon.model_dump() for icon in options.icons]),
            "downloadTotal": options.download_total,
            "uploadTotal": order.upload_total,
            "baseUrl": self._base_url,
            "hold": milliseconds(options.hold),
            "priority": order.priority,
            "hosts": order.hosts,
            "path": order.path,
            **({"retryOf": order.retry_of} if order.retry_of else {}),
            "pausable": int(all(each.method == "GET" for each in order.requests)),
            "paused": waits,
            "prompt": waits,
            POLICY: policy.text,
            "maxBytes": policy.max_bytes,
            **({"window": policy.hours.minutes} if policy.hours else {}),
        }

    async def _commit(
        self, keys: FetchKeys, staging: FetchKeys, order: Order, policy: ScopePolicy
    ) -> tuple[FetchState, list[bytes]]:
        settings, scope, count = self._settings, self._scope, len(order.requests)
        lanes = min(settings.max_lanes, -(-count // settings.lane_size))
        names, arguments = context(keys, settings)
        place_keys, place_arguments = places(keys, settings)
        fields = self._fields(keys, order, policy)
        reply = await self._connection.run(
            "register",
            [
                *names,
                scope.latest,
                staging.staged,
                keys.requests,
                SCOPES,
                staging.bodies,
                keys.bodies,
                *place_keys,
            ],
            [
                *arguments,
                1 if order.options.download_total or policy.max_bytes else lanes,
                count,
                *(part for pair in fields.items() for part in pair),
                *place_arguments,
            ],
        )
        if reply[0] == b"duplicate":
            raise self._duplicate(order.id)
        if reply[0] == b"removing":
            raise InvalidState(
                f"scope {scope.scope!r} is being removed: try again when "
                "`bgfetch scope list` no longer shows it"
            )
        if reply[0] == b"quota":
            raise QuotaExceeded(
                f"others have just taken what {order.id!r} would need of the quota of "
                f"scope {scope.scope!r}; see `bgfetch scope show`"
            )
        if reply[0] != b"ok":
            raise Failure(f"the staged requests of {order.id!r} were lost: try again")
        hash_ = dict(zip(reply[1][::2], reply[1][1::2], strict=True))
        return FetchState.from_hash(hash_), reply[2]

    async def _enqueue(
        self, state: FetchState, jobs: Sequence[bytes], priority: Priority
    ) -> None:
        """Enqueue those jobs that got a place: ours, seldom of others that waited."""
        mine = [job for job in jobs if job.startswith(state.uid.encode())]
        others = [job for job in jobs if job not in mine]
        lanes = [
            LaneJob(
                job.decode(), state.scope, state.uid, state.id, state.records, priority
            )
            for job in mine
        ]
        # The fetch is registered; a job lost here is found missing by a reclaimer (R1).
        try:
            lanes += await described(self._connection, state.scope, others)
            await self._queue.enqueue(lanes)
        except Failure as error:
            log.warning("job_not_enqueued", id=state.id, error=str(error))


def _kept_a_while(
    key: str, rows: Mapping[int, str | bytes]
) -> Iterator[tuple[str | bytes | int, ...]]:
    """The commands that store fields of a hash, which ends if nothing follows."""
    if rows:
        yield "HSET", key, *(part for row in rows.items() for part in row)
        yield "PEXPIRE", key, milliseconds(STAGE_TTL)
