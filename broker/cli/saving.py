"""``--output``: every record that succeeded becomes a file, then the hold ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from broker.cli.files import Folder
from broker.cli.records import RecordView
from broker.filenames import safe_name
from broker.registration import BackgroundFetchRegistration
from schemas.errors import InvalidState, UndecodableBody
from schemas.records import RecordResult

AT_ONCE = 8
"""Files that are written at the same time."""


async def save(
    registration: BackgroundFetchRegistration,
    records: Sequence[RecordView],
    folder: Folder,
    *,
    raw: bool,
) -> list[Path | None]:
    """Save the records; return the file of each, None for one that has none.

    A file is empty until it is whole, and gone if that fails. The records are released
    when all are saved, and not before. ``raw``: as sent, content coding included.

    Raises:
        StorageError: a file cannot be written, or the bytes are not on this machine.
        InvalidState: the records are released already.
        UndecodableBody: a body cannot be decoded; all others are saved.
    """
    if not records:
        raise InvalidState(
            f"the records of {registration.id!r} are released, not saved"
        )
    files: list[Path | None] = []
    undecodable: BaseException | None = None
    for start in range(0, len(records), AT_ONCE):
        batch = records[start : start + AT_ONCE]
        # Names are given in the order of the requests.
        names = [await to_thread.run_sync(_reserve, record, folder) for record in batch]
        writing = map(_write, batch, names, [raw] * len(batch))
        for outcome in await asyncio.gather(*writing, return_exceptions=True):
            if isinstance(outcome, UndecodableBody):
                undecodable = outcome
            elif outcome is not None:
                raise outcome
        files += names
    if undecodable is not None:
        raise undecodable
    await registration.release()
    return files


def _reserve(record: RecordView, folder: Folder) -> Path | None:
    if record.result is not RecordResult.SUCCESS:
        return None
    return folder.reserve(safe_name(record.url))


async def _write(view: RecordView, file: Path | None, raw: bool) -> None:
    if file is None:
        return
    try:
        response = await view.record.response_ready
        await (response.raw if raw else response).save(file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(file)
        raise
