"""Resolves what a proxy is to connect to, and refuses here first (guarantee 8).

Behind a proxy libcurl dials the proxy alone, so ``guard`` never sees the target. Its
name is looked up here instead, every address is judged, and one that passed is what the
proxy is asked for: a second lookup, which could answer otherwise, never happens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread

from schemas.urls import literal_address
from workers.exchange import Fault, TransferError
from workers.reach import Reach, addresses_of

LOOKUP_SECONDS = 60.0
"""How long the addresses of a name are kept, as libcurl keeps them."""
LOOKUPS = 16
"""Names looked up at a time; the system's resolver may take its time over each."""
_PORTS = {"http": 80, "https": 443}


@dataclass(slots=True)
class _Known:
    lookup: asyncio.Task[list[str]]
    until: float
    failures: int = 0


class Targets:
    """The addresses of the origins that a proxy may be asked for.

    ``timeout``, in seconds, is that of a look-up; ``resolve`` blocks, in a thread.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        timeout: float,
        resolve: Callable[[str], Iterable[str]] = addresses_of,
    ) -> None:
        self._reach = reach
        self._timeout = timeout
        self._resolve = resolve
        self._known: dict[str, _Known] = {}
        self._threads = CapacityLimiter(LOOKUPS)

    async def address(self, url: str) -> str:
        """Return an address of the URL's host that may be reached.

        Raises:
            TransferError: FORBIDDEN, by the rules for what is dialled directly;
                OFFLINE, the name has no address, or none in time.
        """
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        literal = literal_address(url)
        if literal is not None:
            return self._allowed([literal], port)[0]
        known = self._lookup(str(parts.hostname))
        allowed = self._allowed(await self._found(known.lookup), port)
        return allowed[known.failures % len(allowed)]

    def failed(self, url: str) -> None:
        """The proxy did not reach the URL's host: another address is next."""
        known = self._known.get(str(urlsplit(url).hostname))
        if known is not None:
            known.failures += 1

    async def aclose(self) -> None:
        """Wait for no look-up any more."""
        lookups = [known.lookup for known in self._known.values()]
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    def _lookup(self, host: str) -> _Known:
        now = time.monotonic()
        known = self._known.get(host)
        if known is None or known.until <= now:
            self._known = {
                name: each for name, each in self._known.items() if each.until > now
            }
            task = asyncio.create_task(self._look_up(host))
            # Nobody may be left to hear how it ended.
            task.add_done_callback(lambda each: each.cancelled() or each.exception())
            known = self._known[host] = _Known(task, now + LOOKUP_SECONDS)
        return known

    async def _found(self, lookup: asyncio.Task[list[str]]) -> list[str]:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(lookup)
        except OSError as error:
            reason = str(error) or f"no answer within {self._timeout:g} s"
            raise TransferError(
                Fault.OFFLINE, f"the name could not be resolved: {reason}"
            ) from error
        except asyncio.CancelledError:
            if lookup.cancelled():
                raise TransferError(Fault.STOPPED, "the transport was closed") from None
            raise

    async def _look_up(self, host: str) -> list[str]:
        try:
            return list(
                await to_thread.run_sync(
                    self._resolve, host, abandon_on_cancel=True, limiter=self._threads
                )
            )
        except OSError:
            # Names come and go: what failed is asked anew.
            self._known.pop(host, None)
            raise

    def _allowed(self, addresses: list[str], port: int) -> list[str]:
        reach = self._reach
        refusals = [reach.refusal(address, port) for address in addresses]
        refused = next(filter(None, refusals), None)
        # As for what is dialled: beside a refused address only exceptions are good.
        allowed = [
            address
            for address, refusal in zip(addresses, refusals, strict=True)
            if refusal is None and (refused is None or reach.excepts(address, port))
        ]
        if not allowed:
            detail = f"the address may not be reached: {refused}"
            raise TransferError(Fault.FORBIDDEN, detail)
        return allowed
