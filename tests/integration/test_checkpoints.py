"""Checkpoints of parts, and who may go on after them (R3-R6)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.blobs import DirectoryStore, Durability
from schemas.records import Checkpoint
from tests.integration.files import (
    BODY,
    LARGE,
    content,
    watched_calls,
    written,
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.open(tmp_path / "store", Durability.FULL)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return watched_calls(monkeypatch)


def test_a_durable_checkpoint_follows_its_sync(
    store: DirectoryStore, calls: list[str]
) -> None:
    """R5: never a length that is not on the medium."""
    part = written(store)
    calls.clear()

    checkpoint = part.checkpoint()

    assert calls == ["pwritev", "fdatasync"]
    assert checkpoint == Checkpoint(store=store.id, part=part.name, length=len(BODY))
    part.close()


@pytest.mark.parametrize("durability", [Durability.BOOT, Durability.NONE])
def test_a_checkpoint_without_a_sync_ends_with_the_hosts_boot(
    tmp_path: Path, calls: list[str], durability: Durability
) -> None:
    """R5: after a reboot the page cache is gone, and so is the checkpoint."""
    store = DirectoryStore.open(tmp_path, durability)
    part = written(store)
    calls.clear()

    checkpoint = part.checkpoint()
    part.close()

    assert calls == ["pwritev", "close"]
    assert checkpoint.boot
    after_reboot = replace(checkpoint, boot="another")
    assert store.resume(after_reboot) is None
    successor = DirectoryStore.open(tmp_path, Durability.FULL).resume(checkpoint)
    assert successor is not None
    successor.close()


@pytest.mark.parametrize("explicit", [True, False])
def test_a_successor_goes_on_after_the_checkpoint_and_hashes_all(
    store: DirectoryStore, explicit: bool
) -> None:
    """R3, R6: what lies beyond the checkpoint is written again at its offset."""
    first = written(store, LARGE[:800_000])
    checkpoint = first.checkpoint()
    first.write(LARGE[800_000:900_000])
    first.flush()

    successor = store.resume(checkpoint)
    assert successor is not None
    assert (successor.name, successor.length) == (first.name, 800_000)
    if explicit:
        successor.rehash()
        assert successor.digest == hashlib.sha256(LARGE[:800_000]).hexdigest()
    successor.write(LARGE[800_000:])

    assert store.finish([successor]) == [None]
    assert content(store, first.name) == LARGE
    assert successor.digest == hashlib.sha256(LARGE).hexdigest()
    first.close()


def other_store(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, store=secrets.token_hex(16))


def file_gone(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    store.delete([checkpoint.part])
    return checkpoint


def file_short(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, length=checkpoint.length + 1)


def name_with_a_path(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, part=f"../parts/{checkpoint.part}")


def link(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    name = secrets.token_hex(16)
    parts = store.directory / "parts"
    (parts / name).symlink_to(parts / checkpoint.part)
    return replace(checkpoint, part=name)


def second_name(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    name = secrets.token_hex(16)
    parts = store.directory / "parts"
    (parts / name).hardlink_to(parts / checkpoint.part)
    return replace(checkpoint, part=name)


def no_proved_byte(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, length=0)


@pytest.mark.parametrize(
    "change",
    [
        other_store,
        file_gone,
        file_short,
        name_with_a_path,
        link,
        second_name,
        no_proved_byte,
    ],
)
def test_a_checkpoint_whose_bytes_are_not_here_is_not_resumed(
    store: DirectoryStore,
    change: Callable[[DirectoryStore, Checkpoint], Checkpoint],
) -> None:
    """R3, R4, and faults row 72: links and paths are nobody's parts."""
    part = written(store)
    checkpoint = change(store, part.checkpoint())
    part.close()

    assert store.resume(checkpoint) is None
