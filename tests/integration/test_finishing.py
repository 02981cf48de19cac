"""Parts become blobs, or cannot: full disks and lost writes (R3, R5; faults 70-72)."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from broker.blobs import DirectoryStore, Durability
from schemas.errors import StorageError
from schemas.records import Checkpoint
from tests.integration.files import (
    BODY,
    content,
    failing,
    limited,
    places,
    written,
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.open(tmp_path / "store", Durability.FULL)


def test_a_zombie_and_its_successor_may_both_finish_one_part(
    store: DirectoryStore,
) -> None:
    """R3: the rename is idempotent, and nothing else touches the name."""
    zombie = written(store)
    successor = store.resume(zombie.checkpoint())
    assert successor is not None

    assert store.finish([successor]) == [None]
    assert store.finish([zombie]) == [None]

    assert content(store, zombie.name) == BODY
    late = store.resume(Checkpoint(store=store.id, part=zombie.name, length=1))
    assert late is not None
    late.close()


def test_a_part_deleted_meanwhile_does_not_come_back(store: DirectoryStore) -> None:
    """R16: a late finish fails and leaves no file behind."""
    part = written(store)
    store.delete([part.name])

    [failure] = store.finish([part])

    assert failure is not None
    assert "ENOENT" in str(failure)
    assert places(store, part.name) == []


def test_one_full_disk_does_not_harm_the_rest_of_a_batch(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 70: the failure is the one part's, is named, and stays."""
    good, bad, also_good = (written(store) for _ in range(3))
    others = len(os.listdir("/dev/fd")) - 3
    in_turn = iter([os.fdatasync, failing(ENOSPC), os.fdatasync])
    monkeypatch.setattr(os, "fdatasync", lambda fd: next(in_turn)(fd))

    outcomes = store.finish([good, bad, also_good])

    assert [outcome is None for outcome in outcomes] == [True, False, True]
    assert f"ENOSPC (No space left on device): {store.directory}" in str(outcomes[1])
    assert places(store, bad.name) == ["parts"]
    assert len(os.listdir("/dev/fd")) == others
    with pytest.raises(StorageError, match="ENOSPC"):
        bad.flush()


def test_a_lost_write_that_the_kernel_reports_once_is_not_forgotten(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: a second, successful fdatasync proves nothing about the first."""
    part = written(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(EIO))
        with pytest.raises(StorageError, match="EIO"):
            part.checkpoint()

    with pytest.raises(StorageError, match="EIO"):
        part.checkpoint()
    assert store.finish([part]) != [None]
    assert places(store, part.name) == ["parts"]


def test_names_that_did_not_reach_the_medium_fail_the_whole_batch(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [written(store), written(store)]

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(EIO))
        outcomes = store.finish(batch)

    assert all("EIO" in str(outcome) for outcome in outcomes)


def test_a_file_size_limit_is_an_error_that_names_itself(
    store: DirectoryStore,
) -> None:
    """Fault 70 with a real short write, then a real error."""
    part = store.create()
    part.write(BODY)

    with limited(resource.RLIMIT_FSIZE, 1000), pytest.raises(StorageError) as caught:
        part.flush()

    assert "EFBIG" in str(caught.value)
    assert store.finish([part]) == [caught.value]
    assert places(store, part.name) == ["parts"]


def test_a_process_without_file_descriptors_says_so(store: DirectoryStore) -> None:
    with limited(resource.RLIMIT_NOFILE, 3):
        with pytest.raises(StorageError, match="EMFILE"):
            store.create()
        with pytest.raises(StorageError, match="EMFILE"):
            store.reader("0" * 32)


def symbolic_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def hard_link(place: Path, victim: Path) -> None:
    place.hardlink_to(victim)


def pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("plant", [symbolic_link, hard_link, pipe])
def test_what_is_planted_at_the_path_of_a_part_is_not_written_to(
    store: DirectoryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[Path, Path], None],
) -> None:
    """Faults row 72: O_EXCL, even where somebody guessed the name."""
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    plant(store.directory / "parts" / ("0" * 32), victim)
    monkeypatch.setattr(os, "urandom", bytes)

    with pytest.raises(StorageError, match="EEXIST"):
        store.create()

    assert victim.read_text() == "theirs"
