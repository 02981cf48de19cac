"""``Response``: head and body of a record, readable while the body still arrives."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio.to_thread
from typing_extensions import override

from broker.body import POLL_SECONDS, BodyReading, Replaced, unexposed
from broker.headers import Headers
from broker.keys import FetchKeys
from broker.records import RecordReader
from schemas.errors import StorageError
from schemas.records import RecordState


class Response:
    """One response. Its body is bound to one version of the resource (R8).

    A ``Content-Encoding`` of gzip or deflate is undone as the body is read, within
    ``BGFETCH_MAX_DECODED`` and ``BGFETCH_MAX_DECODED_RATIO``; ``raw`` leaves it alone.
    """

    def __init__(
        self,
        reader: RecordReader,
        keys: FetchKeys,
        index: int,
        state: RecordState,
        *,
        decode: bool = True,
    ) -> None:
        assert state.head is not None
        self._state = state
        self._decode = decode
        self._reader = reader
        self._keys = keys
        self._index = index
        self._head = state.head
        self.headers = Headers(state.head)

    @override
    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url}>"

    @property
    def status(self) -> int:
        """The status code."""
        return self._head.status

    @property
    def status_text(self) -> str:
        """The reason phrase; empty over HTTP/2."""
        return self._head.status_text

    @property
    def ok(self) -> bool:
        """Whether the status is in 200 … 299."""
        return 200 <= self._head.status <= 299

    @property
    def url(self) -> str:
        """The URL of the last hop, without fragment."""
        return self._head.url.partition("#")[0]

    @property
    def redirected(self) -> bool:
        """Whether there was more than one hop."""
        return self._head.redirected

    @property
    def type(self) -> str:
        """Always ``"default"``: nothing is filtered for an origin here."""
        return "default"

    @property
    def raw(self) -> Response:
        """The same response, whose body is read as it was sent, coded or not."""
        return Response(
            self._reader, self._keys, self._index, self._state, decode=False
        )

    @property
    def body(self) -> AsyncGenerator[bytes]:
        """The body from its first byte on, waiting for what is still to come.

        A reader that began before the records were released finishes (R17).

        Raises:
            Aborted, RecordFailed: the record ended so; no further byte is given.
            InvalidState: the records were released before reading began.
            StorageError: the bytes cannot be read here.
            UndecodableBody: the content coding is unknown, the coded bytes are broken
                or too few, or the body grows too large; what was given is no whole.
        """
        return self._blocks()

    def part(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """The stored bytes from ``start`` to before ``end``, still coded if they are.

        Waits for those that are still to come, and ends where the body does.

        Raises what iterating ``body`` raises.
        """
        return self._reading(decode=False).blocks(start, end)

    def _blocks(self) -> AsyncGenerator[bytes]:
        return self._reading(decode=self._decode).blocks()

    def _reading(self, *, decode: bool) -> BodyReading:
        return BodyReading(
            self._reader, self._keys, self._index, self._head, decode=decode
        )

    async def read(self) -> bytes:
        """Return the whole body; begins again by itself if the record restarts.

        Raises what iterating ``body`` raises.
        """
        while True:
            try:
                async with aclosing(self._blocks()) as blocks:
                    return b"".join([block async for block in blocks])
            except Replaced:
                await self._renew()

    async def text(self) -> str:
        """Return the whole body decoded as UTF-8, undecodable bytes replaced."""
        return (await self.read()).decode("utf-8", "replace").removeprefix("\ufeff")

    async def json(self) -> Any:
        """Return the whole body parsed as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(await self.text())

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole body to ``path``, which appears only when complete.

        An existing file is replaced. Begins again by itself if the record restarts.

        Raises:
            StorageError: ``path`` cannot be written.
            Aborted, RecordFailed, InvalidState: as for ``body``.
        """
        target = Path(path)
        draft = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            while not await self._saved(draft):
                await self._renew()
            await anyio.to_thread.run_sync(draft.replace, target)
        except OSError as error:
            raise StorageError.from_os(error, target) from error
        finally:
            await anyio.to_thread.run_sync(lambda: draft.unlink(missing_ok=True))

    async def _saved(self, draft: Path) -> bool:
        async with await anyio.open_file(draft, "wb") as file:
            try:
                async with aclosing(self._blocks()) as blocks:
                    async for block in blocks:
                        await file.write(block)
            except Replaced:
                return False
        return True

    async def _renew(self) -> None:
        """Take the head of the version that replaced the one being read."""
        while True:
            look = await self._reader.look(self._keys, self._index)
            if not look.outcome.exposed:
                raise unexposed(look, self._head.url)
            if look.state.head is not None:
                self._state, self._head = look.state, look.state.head
                self.headers = Headers(look.state.head)
                return
            await asyncio.sleep(POLL_SECONDS)
