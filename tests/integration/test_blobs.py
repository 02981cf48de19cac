"""The blob store in a directory: founded, read, emptied (R4, R8, R16; fault 72)."""

from __future__ import annotations

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from broker.blobs import DirectoryStore, Durability, read_blocks
from schemas.errors import StorageError
from tests.integration.files import (
    BODY,
    LARGE,
    places,
    written,
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.open(tmp_path / "store", Durability.FULL)


def test_stores_opened_at_once_in_one_directory_are_one_store(tmp_path: Path) -> None:
    """R4: several processes may found a store; they agree on its id."""
    barrier = threading.Barrier(8)

    def found(_: int) -> str:
        barrier.wait()
        return DirectoryStore.open(tmp_path / "new" / "store").id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(found, range(8)))

    assert len(ids) == 1
    assert sorted(os.listdir(tmp_path / "new" / "store")) == [
        "blobs",
        "parts",
        "store-id",
    ]
    assert (tmp_path / "new" / "store").stat().st_mode & 0o777 == 0o700


def test_a_store_founded_a_moment_earlier_by_another_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4: the marker appears whole, and the first one stays."""
    real = os.link
    earlier: list[str] = []

    def link(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", real)
        earlier.append(DirectoryStore.open(tmp_path).id)
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    store = DirectoryStore.open(tmp_path)

    assert [store.id] == earlier
    assert DirectoryStore.open(tmp_path).id == store.id


def test_a_directory_that_cannot_be_a_store_is_named_with_the_reason(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError, match=r"EEXIST.*file"):
        DirectoryStore.open(tmp_path / "file")
    with pytest.raises(StorageError, match=r"ENOTDIR.*below"):
        DirectoryStore.open(tmp_path / "file" / "below")


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    DirectoryStore.open(tmp_path)
    (tmp_path / "store-id").write_text("..")

    with pytest.raises(StorageError, match="not the id of a blob store"):
        DirectoryStore.open(tmp_path)


def test_only_regular_files_are_read(store: DirectoryStore) -> None:
    """Fault 72: a pipe would hold the reader up for ever."""
    os.mkfifo(store.directory / "blobs" / ("0" * 32))

    with pytest.raises(StorageError, match="ENOENT"):
        store.reader("0" * 32)


async def test_blocks_are_read_from_a_part_that_becomes_a_blob_and_is_deleted(
    store: DirectoryStore,
) -> None:
    part = written(store, LARGE)
    length = part.flush()

    with store.reader(part.name) as reader:
        blocks = read_blocks(reader, 1000, length, size=400_000)
        seen = [await anext(blocks)]
        store.finish([part])
        seen.append(await anext(blocks))
        store.delete([part.name])
        seen += [block async for block in blocks]

    assert b"".join(seen) == LARGE[1000:]
    assert [len(block) for block in seen] == [400_000, 400_000, 400_000, 299_000]


async def test_a_blob_shorter_than_acknowledged_is_an_error_not_an_end(
    store: DirectoryStore,
) -> None:
    """R8: fewer bytes than Redis acknowledges are never passed off as the body."""
    part = written(store)
    store.finish([part])

    with store.reader(part.name) as reader:
        blocks = read_blocks(reader, 0, len(BODY) + 1)
        assert await anext(blocks) == BODY
        with pytest.raises(StorageError, match="ends at 4096, before 4097"):
            await anext(blocks)


def test_deleting_takes_parts_and_blobs_and_may_be_repeated(
    store: DirectoryStore, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_bytes(b"")
    growing, whole = written(store), written(store)
    growing.close()
    store.finish([whole])
    names = [growing.name, whole.name, "../../victim", secrets.token_hex(16)]

    store.delete(names)
    store.delete(names)

    assert places(store, growing.name) + places(store, whole.name) == []
    assert (tmp_path / "victim").exists()
    with pytest.raises(StorageError, match="ENOENT"):
        store.reader(whole.name)


def test_only_old_files_of_this_very_store_may_be_swept(store: DirectoryStore) -> None:
    """R16: names are candidates when a day old, while the store's id still holds."""
    young, old, whole = written(store), written(store), written(store)
    store.finish([whole])
    for name, place in ((old.name, "parts"), (whole.name, "blobs")):
        os.utime(store.directory / place / name, (0, 0))
    (store.directory / "parts" / "notes.txt").write_bytes(b"")
    os.utime(store.directory / "parts" / "notes.txt", (0, 0))
    for part in (young, old):
        part.close()

    assert sorted(store.sweepable(timedelta(days=1))) == sorted([old.name, whole.name])

    (store.directory / "store-id").write_text(secrets.token_hex(16))
    assert list(store.sweepable(timedelta(days=1))) == []
