"""The blob store on a real file system (R3-R6, R16; faults 70-72)."""

import hashlib
import os
import resource
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from errno import EIO, ENOSPC
from pathlib import Path
from typing import Any

import pytest

from broker import parts
from broker.blobs import DirectoryStore, Durability, Part, read_blocks
from schemas.errors import StorageError
from schemas.records import Checkpoint

BODY = bytes(range(256)) * 16
LARGE = secrets.token_bytes(1_500_000)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.open(tmp_path / "store", Durability.FULL)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the system calls made from here on, in order."""
    seen: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("open", "pwrite", "pwritev", "pread", "rename", "close", "stat"):
        watch(name)
    for name in ("fstat", "fdatasync", "fsync"):
        watch(name)
    return seen


def written(store: DirectoryStore, body: bytes = BODY, step: int = 16_384) -> Part:
    part = store.create()
    for start in range(0, len(body), step):
        part.write(body[start : start + step])
    return part


def content(store: DirectoryStore, name: str) -> bytes:
    with store.reader(name) as reader:
        return reader.read_at(0, 1 << 24)


def places(store: DirectoryStore, name: str) -> list[str]:
    return [p for p in ("parts", "blobs") if (store.directory / p / name).exists()]


def failing(code: int) -> Callable[[int], None]:
    def call(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    return call


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


# Stores


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


# Parts


@pytest.mark.parametrize("size", [0, 1, 4096, parts.BUFFER, len(LARGE)])
def test_what_was_written_is_read_and_its_digest_is_right(
    store: DirectoryStore, size: int
) -> None:
    part = written(store, LARGE[:size])

    assert store.finish([part]) == [None]

    assert content(store, part.name) == LARGE[:size]
    assert part.digest == hashlib.sha256(LARGE[:size]).hexdigest()
    assert places(store, part.name) == ["blobs"]


def test_a_small_part_costs_one_open_one_write_one_rename_and_one_close(
    tmp_path: Path, calls: list[str]
) -> None:
    store = DirectoryStore.open(tmp_path, Durability.NONE)
    calls.clear()

    part = store.create()
    part.write(BODY)
    store.finish([part])

    assert calls == ["open", "pwritev", "close", "rename"]


def test_a_batch_is_synced_before_it_is_renamed_and_its_directories_once(
    store: DirectoryStore, calls: list[str]
) -> None:
    """R5: bytes, then names, then the directories, before anything succeeds."""
    batch = [written(store) for _ in range(3)]
    calls.clear()

    store.finish(batch)

    order = [call for call in calls if call in ("fdatasync", "rename", "fsync")]
    assert order == ["fdatasync"] * 3 + ["rename"] * 3 + ["fsync"] * 2


def test_short_writes_go_on_where_they_ended(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6: what a write accepted is what counts."""
    pwrite, pwritev = os.pwrite, os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda fd, blocks, at: pwritev(fd, [blocks[0][:1000]], at)
    )
    monkeypatch.setattr(os, "pwrite", lambda fd, block, at: pwrite(fd, block[:999], at))

    part = written(store, LARGE)
    store.finish([part])

    assert content(store, part.name) == LARGE
    assert part.digest == hashlib.sha256(LARGE).hexdigest()


def test_a_body_in_many_tiny_chunks_is_written_whole(store: DirectoryStore) -> None:
    part = written(store, LARGE[:20_000], step=7)

    store.finish([part])

    assert content(store, part.name) == LARGE[:20_000]


def test_a_flush_in_a_thread_and_one_by_the_writer_take_turns(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = store.create()
    real, inside, overlap = os.pwritev, threading.Event(), threading.Event()

    def pwritev(fd: int, blocks: list[bytes], at: int) -> int:
        if inside.is_set():
            overlap.set()
        inside.set()
        overlap.wait(0.1)  # with turns taken, nobody comes
        written = real(fd, blocks, at)
        inside.clear()
        return written

    monkeypatch.setattr(os, "pwritev", pwritev)
    part.write(LARGE[:1000])
    thread = threading.Thread(target=part.flush)
    thread.start()
    assert inside.wait(10)
    part.write(LARGE[1000:])
    thread.join()

    assert not overlap.is_set()
    assert store.finish([part]) == [None]
    assert content(store, part.name) == LARGE
    assert part.digest == hashlib.sha256(LARGE).hexdigest()


def test_flushing_in_a_thread_loses_nothing_of_what_is_written_meanwhile(
    store: DirectoryStore,
) -> None:
    part = store.create()
    lengths: list[int] = []
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            lengths.append(part.flush())

    thread = threading.Thread(target=flush)
    thread.start()
    for start in range(0, len(LARGE), 100):
        part.write(LARGE[start : start + 100])
    done.set()
    thread.join()
    store.finish([part])

    assert lengths == sorted(lengths)
    assert content(store, part.name) == LARGE


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_digest_under_another_algorithm_covers_what_a_predecessor_wrote_too(
    store: DirectoryStore, algorithm: str
) -> None:
    """R6: bytes still in the buffer are among those covered."""
    first = written(store, LARGE[:800_000])
    checkpoint = first.checkpoint()
    first.close()
    part = store.resume(checkpoint)
    assert part is not None
    part.write(LARGE[800_000:])

    found = part.digest_in(algorithm)

    part.close()
    assert found == hashlib.new(algorithm, LARGE).digest()


def test_a_part_that_is_read_back_in_a_thread_holds_up_no_flush(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop flushes all open parts, those included that begin again here."""
    first = written(store, LARGE)
    checkpoint = first.checkpoint()
    first.close()
    part = store.resume(checkpoint)
    assert part is not None
    reading, flushed, pread = threading.Event(), threading.Event(), os.pread

    def slow(fd: int, size: int, at: int) -> bytes:
        reading.set()
        assert flushed.wait(10)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", slow)
    with ThreadPoolExecutor(1) as threads:
        rehashing = threads.submit(part.rehash)
        assert reading.wait(10)
        length = part.flush()
        flushed.set()
        rehashing.result(10)

    part.close()
    assert length == len(LARGE)
    assert part.digest == hashlib.sha256(LARGE).hexdigest()


def test_closing_waits_for_a_write_in_a_thread_and_lets_none_follow(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the bytes could land in another part, whose file got the same number."""
    part = written(store)
    writing, go_on, pwritev = threading.Event(), threading.Event(), os.pwritev

    def slow(fd: int, buffers: list[bytes], at: int) -> int:
        writing.set()
        assert go_on.wait(10)
        return pwritev(fd, buffers, at)

    monkeypatch.setattr(os, "pwritev", slow)
    with ThreadPoolExecutor(2) as threads:
        flushing = threads.submit(part.flush)
        assert writing.wait(10)
        closing = threads.submit(part.close)
        another = store.create()
        go_on.set()
        closing.result(10)
        assert flushing.result(10) == len(BODY)
    part.write(BODY)
    with pytest.raises(StorageError, match="EBADF"):
        part.flush()

    another.close()
    assert content(store, part.name) == BODY
    assert content(store, another.name) == b""


def test_a_digest_is_not_given_for_bytes_that_are_not_in_the_file(
    store: DirectoryStore,
) -> None:
    part = written(store)

    with pytest.raises(RuntimeError, match="0 of 4096 bytes are hashed"):
        _ = part.digest
    part.flush()

    assert part.digest == hashlib.sha256(BODY).hexdigest()
    part.close()


# Checkpoints


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
    after_reboot = checkpoint.model_copy(update={"boot": "another"})
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
    return checkpoint.model_copy(update={"store": secrets.token_hex(16)})


def file_gone(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    store.delete([checkpoint.part])
    return checkpoint


def file_short(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint.model_copy(update={"length": checkpoint.length + 1})


def name_with_a_path(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint.model_copy(update={"part": f"../parts/{checkpoint.part}"})


def link(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    name = secrets.token_hex(16)
    parts = store.directory / "parts"
    (parts / name).symlink_to(parts / checkpoint.part)
    return checkpoint.model_copy(update={"part": name})


def second_name(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    name = secrets.token_hex(16)
    parts = store.directory / "parts"
    (parts / name).hardlink_to(parts / checkpoint.part)
    return checkpoint.model_copy(update={"part": name})


def no_proved_byte(store: DirectoryStore, checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint.model_copy(update={"length": 0})


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


# Finishing


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
    monkeypatch.setattr(secrets, "token_hex", lambda size: "00" * size)

    with pytest.raises(StorageError, match="EEXIST"):
        store.create()

    assert victim.read_text() == "theirs"


# Reading, deleting, sweeping


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
