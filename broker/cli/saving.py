"""``--output``: every record that succeeded becomes a file, then the hold ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from broker.cli.files import Folder, safe_name
from broker.cli.records import RecordView
from broker.registration import BackgroundFetchRegistration
from schemas.records import RecordResult


async def save(
    registration: BackgroundFetchRegistration,
    records: Sequence[RecordView],
    directory: Path | None,
) -> list[Path | None]:
    """Save the records; return the file of each, None for one that has none.

    Without a ``directory`` nothing is saved. A file has its name only when it is whole.
    The records are released when all are saved, and not before.

    Raises:
        StorageError: a file cannot be written, or the bytes are not on this machine.
    """
    if directory is None:
        return [None] * len(records)
    folder = Folder(directory)
    files = [
        await _save(record, folder) if record.result is RecordResult.SUCCESS else None
        for record in records
    ]
    await registration.release()
    return files


async def _save(view: RecordView, folder: Folder) -> Path:
    file = await to_thread.run_sync(folder.reserve, safe_name(view.url))
    try:
        response = await view.record.response_ready
        await response.save(file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file
