"""HTTP exchanges over libcurl, which only this module and ``handles`` know.

One multi handle carries all exchanges of a transport on the event loop; connections and
easy handles are kept for the next exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

import certifi
import pycurl

from schemas.addresses import AddressPolicy
from schemas.proxies import Proxy
from schemas.urls import origin_of
from workers.exchange import (
    Body,
    Fault,
    Outgoing,
    Sink,
    TransferError,
    TransportLimits,
)
from workers.handles import Easy
from workers.origin_slots import Slot
from workers.reach import Endpoint, Reach, addresses_of
from workers.reactor import Reactor
from workers.reception import Reception
from workers.slots import Slots
from workers.targets import Targets
from workers.throttle import Throttle

__all__ = [
    "Body",
    "Fault",
    "Outgoing",
    "Sink",
    "TransferError",
    "Transport",
    "TransportLimits",
]


class Transport:
    """Exchanges requests for responses, under one address policy and its limits.

    Use it on one event loop and in one process: make it after a fork, not before.
    ``ca_bundle`` is a file of PEM certificates to trust; certifi's if None. ``closed``
    are servers that may not be reached, whatever the policy allows. Everything goes
    through ``proxy``, if there is one: it is asked for addresses that were checked
    here, or, with ``proxy_resolves``, for the names, which it looks up itself.
    ``slots`` are whose slots the exchanges take; without them, some of its own.
    """

    def __init__(
        self,
        limits: TransportLimits,
        policy: AddressPolicy,
        *,
        ca_bundle: str | None = None,
        closed: Iterable[Endpoint] = (),
        proxy: Proxy | None = None,
        proxy_resolves: bool = False,
        resolve: Callable[[str], Iterable[str]] = addresses_of,
        slots: Slots | None = None,
    ) -> None:
        self._limits = limits
        self._reach = Reach(policy, tuple(closed))
        self._proxy = proxy
        self._proxy_resolves = proxy_resolves
        self._targets = Targets(
            self._reach, timeout=limits.connect_timeout, resolve=resolve
        )
        self._ca_bundle = ca_bundle or certifi.where()
        self._slots = slots or Slots(
            limits.connections, limits.max_connections_per_host
        )
        self._multi: _Multi | None = None
        self._idle: list[Easy] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection; exchanges under way end as STOPPED."""
        self._closed = True
        while self._idle:
            self._idle.pop().curl.close()
        multi, self._multi = self._multi, None
        if multi is not None:
            await multi.aclose()
        await self._targets.aclose()

    async def exchange(
        self,
        outgoing: Outgoing,
        sink: Sink,
        *,
        uploaded: Callable[[int], None] | None = None,
        slot: Slot | None = None,
    ) -> None:
        """Send one request and hand its response to ``sink``; a redirect is a response.

        Returns when the body has ended as its head announced, or when the sink did not
        want it. ``uploaded`` hears how many bytes of the request's body went out so
        far. Requests other than GET and HEAD are sent once, on a connection of their
        own. Cancelling ends the transfer at once. ``slot`` is one that was taken for
        it; it is released, and without it the exchange waits for one.

        Raises:
            OriginBusy: the origin is not to be asked for a while.
            TransferError: there is no whole response; its ``fault`` tells the kind.
            Exception: whatever the sink, ``uploaded`` or the request's body raised.
        """
        slot = slot or await self._slots.acquire(origin_of(outgoing.url))
        try:
            await self._exchange(outgoing, sink, uploaded)
        finally:
            slot.release()

    async def _exchange(
        self, outgoing: Outgoing, sink: Sink, uploaded: Callable[[int], None] | None
    ) -> None:
        if self._closed:
            raise TransferError(Fault.STOPPED, "the transport is closed")
        multi = self._multi = self._multi or _Multi(self._limits)
        reception = Reception(
            outgoing,
            sink,
            self._limits,
            clock=multi.clock,
            wake=multi.wake,
            uploaded=uploaded,
            throttle=multi.throttle,
        )
        address = await self._address(outgoing.url) if self._proxy else None
        easy = self._idle.pop() if self._idle else self._new_easy()
        try:
            easy.prepare(outgoing, reception, address)
            error = await multi.perform(easy)
        finally:
            self._keep(easy, plain=outgoing.method == "GET" and not outgoing.body)
        if error is not None:
            if address is not None and _offline(error):
                self._targets.failed(outgoing.url)
            raise error

    async def _address(self, url: str) -> str | None:
        """What the proxy is asked for instead of a name, which is checked anyway."""
        address = await self._targets.address(url)
        if self._closed:
            raise TransferError(Fault.STOPPED, "the transport is closed")
        return None if self._proxy_resolves else address

    def _new_easy(self) -> Easy:
        return Easy(self._limits, self._reach, self._ca_bundle, self._proxy)

    def _keep(self, easy: Easy, *, plain: bool) -> None:
        # The options of the rarer methods are not undone one by one.
        if self._closed or not plain:
            easy.curl.close()
        else:
            easy.reception.release()
            self._idle.append(easy)


def _offline(error: BaseException) -> bool:
    return isinstance(error, TransferError) and error.fault is Fault.OFFLINE


class _Multi:
    """Performs many transfers at once, carried by the running event loop."""

    def __init__(self, limits: TransportLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self.wake = self._loop.call_soon_threadsafe
        self._reactor = Reactor(self._act)
        self._active: dict[pycurl.Curl, tuple[Easy, _Done]] = {}
        self._interval = limits.interval
        self._watchdog: asyncio.TimerHandle | None = None
        self.throttle: Throttle | None = None
        if limits.rate is not None:
            later = self._loop.call_later
            self.throttle = Throttle(limits.rate, clock=self.clock, later=later)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, limits.connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._reactor.arm)

    async def perform(self, easy: Easy) -> BaseException | None:
        """Carry one transfer to its end and return its error, if it has one."""
        done: _Done = self._loop.create_future()
        self._multi.add_handle(easy.curl)
        self._active[easy.curl] = easy, done
        easy.reception.resume = partial(self._resume, easy)
        if self._watchdog is None:
            self._look_later()
        try:
            return await done
        finally:
            self._end(easy.curl, None)

    async def aclose(self) -> None:
        """End all transfers as STOPPED and close all connections."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        for curl in list(self._active):
            self._end(curl, TransferError(Fault.STOPPED, "the transport was closed"))
        self._reactor.close()
        if self.throttle is not None:
            self.throttle.close()
        # It waits for names that are being looked up, though nobody wants them now.
        await asyncio.to_thread(self._multi.close)

    def _watch(self, what: int, descriptor: int, multi: object, data: object) -> None:
        # POLL_IN and POLL_OUT are the reactor's numbers; POLL_REMOVE has neither bit.
        self._reactor.watch(descriptor, what)

    def _act(self, descriptor: int, events: int) -> None:
        _, running = self._multi.socket_action(descriptor, events)
        if running < len(self._active):
            self._collect()

    def _collect(self) -> None:
        _, done, failed = self._multi.info_read()
        for curl in done:
            self._end(curl, self._active[curl][0].result(None))
        for curl, code, message in failed:
            easy = self._active[curl][0]
            self._end(curl, easy.result(easy.fault(code, message)))

    def _resume(self, easy: Easy) -> None:
        try:
            easy.curl.pause(pycurl.PAUSE_CONT)
        except pycurl.error as error:
            # What was held back is handed over at once, and the sink may have enough.
            self._end(easy.curl, easy.result(easy.fault(*error.args)))

    def _look(self) -> None:
        """End the transfers that make no progress."""
        assert self._watchdog is not None
        now, due, self._watchdog = self.clock(), self._watchdog.when(), None
        # A loop that was held up has bytes waiting: they count before time does.
        judged = list(self._active.items()) if now - due < self._interval else []
        for curl, (easy, _) in judged:
            if easy.reception.overdue(now):
                self._end(curl, easy.result(None))
        if self._active:
            self._look_later()

    def _look_later(self) -> None:
        self._watchdog = self._loop.call_later(self._interval, self._look)

    def _end(self, curl: pycurl.Curl, error: BaseException | None) -> None:
        """Take a transfer out, with what its exchange raises; the first end counts."""
        found = self._active.pop(curl, None)
        if found is None:
            return
        self._multi.remove_handle(curl)
        found[0].reception.end()
        if not found[1].done():
            found[1].set_result(error)


_Done = asyncio.Future[BaseException | None]
