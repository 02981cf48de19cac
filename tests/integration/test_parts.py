"""Parts of a blob store on a real file system, while they are written (R3, R6)."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker import parts
from broker.blobs import DirectoryStore, Durability
from schemas.errors import StorageError
from tests.integration.files import (
    BODY,
    LARGE,
    content,
    places,
    watched_calls,
    written,
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.open(tmp_path / "store", Durability.FULL)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return watched_calls(monkeypatch)


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


def test_bytes_put_ahead_count_once_all_before_them_are_there(
    store: DirectoryStore,
) -> None:
    """R5, R6: no checkpoint names them earlier, and the digest reads them back."""
    part = store.create()
    third, half = len(LARGE) // 3, len(LARGE) // 2

    part.put(half, [LARGE[half:]])
    part.put(third, [LARGE[third : third + 7], LARGE[third + 7 : half]])
    before = part.length, part.ahead, part.checkpoint().length
    part.write(LARGE[: third - 1])
    part.join()
    short = part.flush()
    part.put(third - 1, [LARGE[third - 1 : third]])

    assert before == (0, len(LARGE) - third, 0)
    assert short == third - 1
    assert (part.length, part.ahead) == (len(LARGE), 0)
    assert part.checkpoint().length == len(LARGE)
    assert part.behind
    while not part.catch_up():
        pass
    assert store.finish([part]) == [None]
    assert content(store, part.name) == LARGE
    assert part.digest == hashlib.sha256(LARGE).hexdigest()


def test_bytes_may_arrive_while_those_put_earlier_are_hashed(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6: each is hashed once, by the reader back or as it comes."""
    half, quarter = len(LARGE) // 2, len(LARGE) // 4
    part = store.create()
    part.put(quarter, [LARGE[quarter:half]])
    part.put(0, [LARGE[:quarter]])
    reading, may, pread = threading.Event(), threading.Event(), os.pread

    def slow(fd: int, size: int, offset: int) -> bytes:
        reading.set()
        assert may.wait(20)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", slow)
    with ThreadPoolExecutor(1) as thread:
        caught_up = thread.submit(part.catch_up)
        assert reading.wait(20)
        part.write(LARGE[half : half + 10])
        part.flush()
        may.set()
        assert caught_up.result(20)
    hashed = not part.behind
    part.put(half + 10, [LARGE[half + 10 :]])
    store.finish([part])

    assert hashed
    assert not part.behind
    assert part.digest == hashlib.sha256(LARGE).hexdigest()


def test_a_part_that_was_not_hashed_in_time_is_before_it_becomes_a_blob(
    store: DirectoryStore,
) -> None:
    """R6."""
    part = store.create()
    part.put(1, [BODY[1:]])
    part.put(0, [BODY[:1]])

    store.finish([part])

    assert part.digest == hashlib.sha256(BODY).hexdigest()


def test_a_part_that_failed_takes_nothing_ahead_either(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    part = store.create()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        with pytest.raises(StorageError, match="ENOSPC"):
            part.put(5, [BODY])

    with pytest.raises(StorageError, match="ENOSPC"):
        part.put(5, [BODY])
    part.close()
