"""Reading a body from whatever it was given as, in blocks, off the event loop."""

from __future__ import annotations

import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, suppress
from typing import cast

import anyio
from anyio import to_thread

from schemas.bodies import BodyStream, Data, Source
from schemas.errors import BackgroundFetchError, InvalidRequest
from schemas.requests import Request

BLOCK = 1024 * 1024
"""About so many bytes of a body are in memory at a time."""


async def blocks_of(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body, about a block at a time; its source's errors become ours."""
    body = request.body
    source = body.take() if isinstance(body, BodyStream) else cast("bytes", body)
    try:
        async with aclosing(_blocks(source)) as blocks:
            async for block in blocks:
                yield block
    except BackgroundFetchError:
        raise
    except Exception as error:
        raise InvalidRequest(
            f"the body of {request.method} {request.url} cannot be read: {error!r}"
        ) from error


def _blocks(source: Source) -> AsyncGenerator[bytes]:
    if isinstance(source, AsyncIterable):
        return _gathered(aiter(source))
    if isinstance(source, os.PathLike):
        return _from_path(source)
    if isinstance(source, bytes):
        return _pulled(iter([source]))
    # A file's own iterator gives lines, of any length.
    read = getattr(source, "read", None)
    if read is not None:
        return _pulled(_reads(read))
    return _pulled(iter(cast("Iterable[Data]", source)))


async def _gathered(chunks: AsyncIterator[Data]) -> AsyncGenerator[bytes]:
    held: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            held.append(_checked(chunk))
            size += len(held[-1])
            if size >= BLOCK:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)
    finally:
        await _close(chunks)


async def _from_path(path: os.PathLike[str]) -> AsyncGenerator[bytes]:
    with await to_thread.run_sync(open, path, "rb") as file:
        async with aclosing(_pulled(_reads(file.read))) as blocks:
            async for block in blocks:
                yield block


async def _pulled(chunks: Iterator[Data]) -> AsyncGenerator[bytes]:
    try:
        while block := await to_thread.run_sync(_pull, chunks):
            yield block
    finally:
        await _close(chunks)


def _reads(read: Callable[[int], bytes]) -> Iterator[bytes]:
    return iter(lambda: read(BLOCK), b"")


def _pull(chunks: Iterator[Data]) -> bytes:
    """Return about a block of a source that may block; nothing is left at its end."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(_checked(chunk))
        size += len(held[-1])
        if size >= BLOCK:
            break
    return b"".join(held)


def _checked(chunk: object) -> bytes:
    if not isinstance(chunk, bytes | bytearray | memoryview):
        raise InvalidRequest(
            f"a body is made of bytes, its source gave {type(chunk).__name__}: "
            "open files in binary mode, encode text"
        )
    return bytes(chunk)


async def _close(source: object) -> None:
    """End a generator that nobody reads on; files are their owner's to close."""
    with anyio.CancelScope(shield=True):
        if isinstance(source, AsyncGenerator):
            await source.aclose()
        elif isinstance(source, Generator):
            await to_thread.run_sync(source.close)


async def cancel(request: Request) -> None:
    """Close the stream of a body that nobody is going to read."""
    if isinstance(request.body, BodyStream) and not request.body.used:
        with suppress(Exception):  # the first failure is the one that is told
            await _close(request.body.take())
