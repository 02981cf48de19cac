"""Reading a body from the store, also while it still arrives (R8, R17)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress

from broker.codings import Decoder, decoded, decoder_of
from broker.keys import FetchKeys
from broker.records import RecordLook, RecordReader
from broker.store import BlobReader, read_blocks
from schemas.errors import Aborted, BackgroundFetchError, RecordFailed, StorageError
from schemas.records import RecordResult, RecordState, ResponseHead

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


class BodyReading:
    """Reads the body of one record; bound to one version of it (R8)."""

    def __init__(
        self,
        reader: RecordReader,
        keys: FetchKeys,
        index: int,
        head: ResponseHead,
        *,
        decode: bool,
    ) -> None:
        self._reader = reader
        self._keys = keys
        self._index = index
        self._head = head
        self._decode = decode

    async def blocks(
        self, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the stored bytes from ``start`` to before ``end``, decoded if so asked.

        Raises what ``Response.body`` raises.
        """
        name = secrets.token_hex(8)
        part, position = "", start
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
                there = self._readable(look) if blob is not None else 0
                there = there if end is None else min(there, end)
                if blob is not None and position < there:
                    async for block in read_blocks(blob, position, there):
                        position += len(block)
                        async for piece in decoded(decoder, block):
                            yield piece
                elif end is not None and position >= end:
                    return
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
