"""``Response``: head and body of a record, readable while the body still arrives."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
from typing_extensions import override

from broker.codings import Decoder, decoded, decoder_of
from broker.headers import Headers
from broker.keys import FetchKeys
from broker.records import RecordLook, RecordReader
from broker.store import BlobReader, read_blocks
from schemas.errors import Aborted, BackgroundFetchError, RecordFailed, StorageError
from schemas.records import RecordResult, RecordState

POLL_SECONDS = 0.1
"""How soon a reader that has caught up looks for more bytes."""


class Replaced(RecordFailed):
    """The record began again; what was read of it is void (BF-OBJ-07)."""


def unexposed(look: RecordLook, url: str) -> BackgroundFetchError:
    """The error with which a record that shows no response is answered (BF-OBJ-08)."""
    if look.outcome is RecordResult.ABORTED:
        return Aborted(f"the fetch ended before {url} was complete")
    detail = look.state.detail
    return RecordFailed(f"{look.outcome}: {url}" + (f": {detail}" if detail else ""))


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

    async def _blocks(self) -> AsyncGenerator[bytes]:
        name = secrets.token_hex(8)
        part, position = "", 0
        blob: BlobReader | None = None
        decoder: Decoder | None = None
        try:
            while True:
                look = await self._look(name)
                checkpoint = look.state.checkpoint
                if part and (checkpoint is None or checkpoint.part != part):
                    raise Replaced(f"{self._head.url} changed while it was read")
                if checkpoint is not None and blob is None and look.stored:
                    part = checkpoint.part
                    decoder = self._decoder(look.state)
                    await self._reader.open()
                    try:
                        blob = self._open(checkpoint.store, part)
                    except StorageError:
                        if await self._has(part, name):
                            raise
                        continue  # it has gone since, and the next look tells why
                end = self._readable(look) if blob is not None else 0
                if blob is not None and position < end:
                    async for block in read_blocks(blob, position, end):
                        position += len(block)
                        async for piece in decoded(decoder, block):
                            yield piece
                elif look.result is not RecordResult.OPEN:
                    if decoder is not None:
                        decoder.finish()
                    return
                else:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            if blob is not None:
                blob.close()
            with suppress(BackgroundFetchError):
                await self._reader.close(self._keys, name)

    async def _look(self, name: str) -> RecordLook:
        look = await self._reader.look(self._keys, self._index, reader=name)
        if not look.outcome.exposed:
            raise unexposed(look, self._head.url)
        return look

    async def _has(self, part: str, name: str) -> bool:
        checkpoint = (await self._look(name)).state.checkpoint
        return checkpoint is not None and checkpoint.part == part

    def _decoder(self, state: RecordState) -> Decoder | None:
        # By the head of the part that is read, which may be newer than ours.
        head = state.head or self._head
        return decoder_of(head, self._reader.decoding) if self._decode else None

    def _readable(self, look: RecordLook) -> int:
        checkpoint, store = look.state.checkpoint, self._reader.store
        return store.readable(look.stored, checkpoint) if checkpoint else 0

    def _open(self, store: str, part: str) -> BlobReader:
        here = self._reader.store
        if store != here.id:
            raise StorageError(
                f"the bytes of {self._head.url} are on store {store}, this process has "
                f"{here.id} ({here.place}): set BGFETCH_STORE to the workers' store"
            )
        return here.reader(part)

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
