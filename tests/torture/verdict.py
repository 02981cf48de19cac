"""What became of a round: its blobs beside the versions that existed."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import anyio.to_thread

from broker.keys import FetchKeys
from broker.records import RecordLook, RecordReader
from schemas.errors import InvalidState
from schemas.records import RecordResult
from tests.torture.origins import Shelf, Version


class Judge:
    """Compares finished records with the bytes that their origins have served."""

    def __init__(self, reader: RecordReader, store: Path) -> None:
        self._reader = reader
        self._blobs = store / "blobs"

    async def violations(self, keys: FetchKeys, shelves: Sequence[Shelf]) -> list[str]:
        """Tell everything that is wrong with the records of an ended fetch."""
        found = []
        for index, shelf in enumerate(shelves):
            try:
                look = await self._reader.look(keys, index)
            except InvalidState as error:
                found.append(f"missing: record {index}: {error}")
                continue
            wrong = await anyio.to_thread.run_sync(self._compare, look, shelf)
            found += [f"{what}: record {index}, {shelf.url}" for what in wrong]
        return found

    async def delete(self, keys: FetchKeys, records: int) -> None:
        """Delete the bytes, which nobody looks at again."""
        for index in range(records):
            look = await self._reader.look(keys, index)
            if look.state.checkpoint is not None:
                (self._blobs / look.state.checkpoint.part).unlink(missing_ok=True)

    def _compare(self, look: RecordLook, shelf: Shelf) -> list[str]:
        if look.result is not RecordResult.SUCCESS:
            return [f"missing ({look.result or 'open'}: {look.state.detail})"]
        checkpoint = look.state.checkpoint
        if checkpoint is None:
            return ["missing (no part is named)"]
        try:
            body = (self._blobs / checkpoint.part).read_bytes()
        except FileNotFoundError:
            return [f"missing (no blob {checkpoint.part})"]
        found = []
        if len(body) != look.stored or len(body) != checkpoint.length:
            found.append(
                f"length: {len(body)} bytes in the blob, {look.stored} counted, "
                f"{checkpoint.length} in the checkpoint"
            )
        digest = sha256(body).hexdigest()
        if look.state.digest != digest:
            found.append(f"digest: {look.state.digest} for bytes of {digest}")
        same = [version for version in shelf.versions if version.digest == digest]
        if not same:
            found.append(_describe(body, shelf))
        elif not any(_shown(look, version) for version in same):
            found.append("mixed: the head is of one version and the body of another")
        return found


def _shown(look: RecordLook, version: Version) -> bool:
    if not version.header:
        return True
    return look.state.head is not None and (
        look.state.head.get(version.header) == version.value
    )


def _describe(body: bytes, shelf: Shelf) -> str:
    """Say which version each stretch of foreign bytes comes from, as far as known."""
    bodies = shelf.bodies
    if any(whole.startswith(body) for whole in bodies):
        return f"truncated: {len(body)} of {[len(whole) for whole in bodies]} bytes"
    shares = [_common(body, whole) for whole in bodies]
    return f"mixed: {len(body)} bytes, as many as {shares} agree with the versions"


def _common(one: bytes, other: bytes) -> int:
    size = min(len(one), len(other))
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
        )
    return low
