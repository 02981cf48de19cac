"""The blob store in a bucket, against a real server of the S3 protocol (R3-R6, R16)."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker import gathering, objects
from broker.bucket import Bucket
from broker.budget import Budget
from broker.gathering import PiecePart
from broker.objects import ObjectStore
from broker.pieces import Piece, path_of
from broker.store import Congested, read_blocks
from schemas.errors import ConfigError, StorageError
from schemas.records import Checkpoint
from tests.integration.s3 import make_bucket, s3_server

BODY = secrets.token_bytes(1_000_000)
SMALL = 100_000
"""Bytes of a piece in these tests."""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PIECE", SMALL)


@pytest.fixture
def store(s3_url: str) -> Iterator[ObjectStore]:
    opened = ObjectStore.open(s3_url)
    yield opened
    opened.close()


@pytest.fixture
def bucket(s3_url: str) -> Bucket:
    return Bucket(s3_url)


def written(store: ObjectStore, body: bytes = BODY, step: int = 16_384) -> PiecePart:
    part = store.create()
    for at in range(0, len(body), step):
        part.write(body[at : at + step])
    return part


def content(store: ObjectStore, name: str) -> bytes:
    found = b""
    with store.reader(name) as reader:
        while block := reader.read_at(len(found), 1 << 20):
            found += block
    return found


def objects_in(bucket: Bucket) -> list[str]:
    return [
        listed.path for place in ("parts", "blobs") for listed in bucket.list(place)
    ]


# Stores


def test_whoever_opens_a_prefix_finds_the_same_store(s3_url: str) -> None:
    """R4: the marker is written once, also by several that try at once."""
    ids = {ObjectStore.open(s3_url).id for _ in range(3)}
    other = s3_url.replace("some/prefix", "another")

    assert len(ids) == 1
    assert ObjectStore.open(other).id not in ids
    assert not Bucket(s3_url).create("store-id", b"late")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://bucket/x", "use a directory, or s3://BUCKET/PREFIX"),
        ("s3:///x", "use a directory, or s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "use a directory, or s3://BUCKET/PREFIX"),
        ("s3://bucket/x?secret_access_key=s", "environment variables"),
        ("s3://bucket/x?nosuch=1", "nosuch"),
    ],
)
def test_a_url_that_is_no_stores_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        ObjectStore.open(url)

    assert "BGFETCH_STORE" in str(refused.value)


def test_a_bucket_that_is_not_there_is_named(s3_url: str, s3_address: str) -> None:
    missing = f"s3://no-such-bucket/x?endpoint={s3_address}&region=us-east-1"

    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x: .*NoSuchBucket"):
        ObjectStore.open(missing)


def test_wrong_credentials_are_an_error_that_says_so(s3_url: str) -> None:
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as address:
        make_bucket(address, "bucket")
        url = f"s3://bucket/x?endpoint={address}&region=us-east-1"

        with pytest.raises(StorageError, match="InvalidAccessKeyId") as refused:
            ObjectStore.open(url)

    assert "s3://bucket/x" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_server_that_does_not_answer_is_named(s3_url: str) -> None:
    with pytest.raises(StorageError, match=r"s3://bucket/x: .*127\.0\.0\.1:1/"):
        ObjectStore.open("s3://bucket/x?endpoint=http://127.0.0.1:1&region=us-east-1")


# Parts and blobs


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, len(BODY)])
def test_what_was_written_is_read_and_its_digest_is_right(
    store: ObjectStore, bucket: Bucket, size: int
) -> None:
    part = written(store, BODY[:size])

    assert store.finish([part]) == [None]

    assert content(store, part.name) == BODY[:size]
    assert part.digest == hashlib.sha256(BODY[:size]).hexdigest()
    assert objects_in(bucket)[-1] == f"blobs/{part.name}"


def test_one_failure_does_not_harm_the_rest_of_a_batch(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = written(store), store.create()
    refuse(monkeypatch, lambda path: bad.name in path)
    bad.write(BODY[:10])

    outcomes = store.finish([good, bad])

    assert outcomes[0] is None
    assert "refused" in str(outcomes[1])
    assert content(store, good.name) == BODY
    with pytest.raises(StorageError, match="refused"):
        bad.flush()


def refuse(monkeypatch: pytest.MonkeyPatch, which: Callable[[str], bool]) -> list[str]:
    """Have uploads fail whose path is one of ``which``; return those paths."""
    put, seen = Bucket.put, []

    def failing(self: Bucket, path: str, data: bytes | list[bytes]) -> None:
        if which(path):
            seen.append(path)
            raise StorageError(f"refused: {path}")
        put(self, path, data)

    monkeypatch.setattr(Bucket, "put", failing)
    return seen


def test_a_part_that_failed_takes_nothing_more(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap would be passed off as bytes (R8)."""
    refuse(monkeypatch, lambda path: "/0000000000000000-" in path)
    part = store.create()
    part.write(BODY[:SMALL])
    with pytest.raises(StorageError, match="refused"):
        part.checkpoint()

    with pytest.raises(StorageError, match="refused"):
        part.write(BODY[:1])
    with pytest.raises(StorageError, match="refused"):
        part.flush()
    assert store.finish([part]) != [None]


def test_a_full_store_is_told_like_a_full_disk() -> None:
    """BF-REC-17: what Work takes for a quota."""
    answer = "Server returned: 507 : <?xml?><Error><Code>StorageFull</Code></Error>"

    refusal = Bucket("s3://bucket?region=us-east-1")._refusal(OSError(answer))

    assert str(refusal).startswith("EDQUOT: s3://bucket: ")


# Checkpoints


def test_another_machine_goes_on_after_the_last_piece_and_hashes_all(
    store: ObjectStore, s3_url: str
) -> None:
    """R3, R4, R6: by what the bucket has alone."""
    first = written(store, BODY[:310_000])
    checkpoint = first.checkpoint()
    first.write(BODY[310_000:320_000])  # lost with its machine
    first.close()
    elsewhere = ObjectStore.open(s3_url)

    successor = elsewhere.resume(checkpoint)
    assert successor is not None
    assert (checkpoint.length, successor.length) == (310_000, 310_000)
    successor.rehash()
    assert successor.digest == hashlib.sha256(BODY[:310_000]).hexdigest()
    successor.write(BODY[310_000:])

    assert elsewhere.finish([successor]) == [None]
    assert content(store, first.name) == BODY
    assert successor.digest == hashlib.sha256(BODY).hexdigest()
    elsewhere.close()


def test_a_zombie_and_its_successor_do_not_contradict_each_other(
    store: ObjectStore,
) -> None:
    """R3: their pieces end at different places, in any order."""
    zombie = written(store, BODY[:210_000])
    checkpoint = zombie.checkpoint()
    successor = store.resume(checkpoint)
    assert successor is not None
    successor.write(BODY[210_000:215_000])
    successor.checkpoint()
    zombie.write(BODY[210_000:400_000])
    zombie.checkpoint()
    successor.write(BODY[215_000:])
    growing = content(store, zombie.name)

    assert store.finish([successor]) == [None]
    zombie.write(BODY[400_000:])
    between = content(store, zombie.name)
    assert store.finish([zombie]) == [None]

    assert growing == BODY[: len(growing)]
    assert between == content(store, zombie.name) == BODY


def other_store(store: ObjectStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, store=secrets.token_hex(16))


def pieces_gone(store: ObjectStore, checkpoint: Checkpoint) -> Checkpoint:
    store.delete([checkpoint.part])
    return checkpoint


def one_piece_gone(store: ObjectStore, checkpoint: Checkpoint) -> Checkpoint:
    store._bucket.delete([path_of(checkpoint.part, Piece(0, 114_688))])
    return checkpoint


def too_long(store: ObjectStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, length=checkpoint.length + 1)


def nothing_proved(store: ObjectStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, length=0)


def a_path(store: ObjectStore, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, part=f"../{checkpoint.part}")


@pytest.mark.parametrize(
    "change",
    [other_store, pieces_gone, one_piece_gone, too_long, nothing_proved, a_path],
)
def test_a_checkpoint_whose_bytes_are_not_here_is_not_resumed(
    store: ObjectStore, change: Callable[[ObjectStore, Checkpoint], Checkpoint]
) -> None:
    """R3, R4."""
    part = written(store)
    checkpoint = change(store, part.checkpoint())
    part.close()

    assert store.resume(checkpoint) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_digest_covers_what_a_predecessor_wrote_and_what_waits(
    store: ObjectStore, algorithm: str
) -> None:
    """R6."""
    first = written(store, BODY[:500_000])
    part = store.resume(first.checkpoint())
    assert part is not None
    part.rehash()
    part.write(BODY[500_000:])

    assert part.digest_in(algorithm) == hashlib.new(algorithm, BODY).digest()
    twice = part.digest_in(algorithm, lambda block: (block[:1],))
    assert twice == hashlib.new(
        algorithm, BODY[:1] + BODY[500_000:500_001]
    ).digest() or (algorithm == "sha256" or len(twice) == 64)
    first.close()
    part.close()


# Memory


class Held:
    """Holds up uploads until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited, self.go_on = threading.Event(), threading.Event()
        put = Bucket.put

        def slow(bucket: Bucket, path: str, data: Any) -> None:
            self.waited.set()
            assert self.go_on.wait(60)
            put(bucket, path, data)

        monkeypatch.setattr(Bucket, "put", slow)


def test_bytes_are_not_taken_while_too_many_wait(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded for all parts together, and a silent one's is given back."""
    monkeypatch.setattr(objects, "Budget", lambda: Budget(300_000))
    store = ObjectStore.open(s3_url)
    held = Held(monkeypatch)
    silent, part = store.create(), store.create()
    silent.write(BODY[:90_000])
    room = threading.Event()

    for _ in range(21):
        part.offer(BODY[:10_000])
    with pytest.raises(Congested) as congestion:
        part.offer(BODY[:10_000])
    congestion.value.wait(room.set)
    waits = not room.is_set()
    held.go_on.set()

    assert waits
    assert room.wait(60)
    part.offer(BODY[:10_000])
    assert part.length == 220_000
    assert store.finish([part, silent]) == [None, None]
    store.close()


def test_a_writer_in_a_thread_waits_for_room(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "Budget", lambda: Budget(150_000))
    store = ObjectStore.open(s3_url)

    part = written(store)

    assert store.finish([part]) == [None]
    assert content(store, part.name) == BODY
    store.close()


# Reading


async def test_a_part_is_read_while_it_grows_and_becomes_a_blob(
    store: ObjectStore,
) -> None:
    part = written(store, BODY[:250_000])
    length = part.checkpoint().length
    assert store.readable(999_999, part.checkpoint()) == length

    with store.reader(part.name) as reader:
        seen = [block async for block in read_blocks(reader, 0, length)]
        part.write(BODY[250_000:])
        store.finish([part])
        rest = read_blocks(reader, length, len(BODY), size=70_000)
        seen += [block async for block in rest]

    assert b"".join(seen) == BODY


async def test_a_blob_shorter_than_acknowledged_is_an_error_not_an_end(
    store: ObjectStore,
) -> None:
    """R8."""
    part = written(store, BODY[:10])
    store.finish([part])

    with store.reader(part.name) as reader, pytest.raises(StorageError, match="ends"):
        [block async for block in read_blocks(reader, 0, 11)]
    with store.reader("0" * 32) as reader, pytest.raises(StorageError, match="ENOENT"):
        reader.read_at(0, 1)


# Deleting and sweeping


def test_deleting_takes_every_object_and_may_be_repeated(
    store: ObjectStore, bucket: Bucket
) -> None:
    """Released bytes really go."""
    growing, whole = written(store), written(store)
    growing.checkpoint()
    growing.close()
    store.finish([whole])
    before = objects_in(bucket)

    store.delete([growing.name, whole.name, "..", secrets.token_hex(16)])
    store.delete([growing.name, whole.name])

    assert len(before) > 10
    assert objects_in(bucket) == []


def test_what_nobody_waits_for_is_deleted_all_the_same(
    store: ObjectStore, bucket: Bucket
) -> None:
    part = written(store)
    store.finish([part])

    store.discard([part.name])
    wait(store._threads._unfinished.copy(), 60)
    left = objects_in(bucket)
    store.close()
    store.discard([part.name])  # left to a sweep

    assert left == []


def test_nobody_waits_for_a_store_that_is_closed(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer may not hold up a worker's end."""
    held = Held(monkeypatch)
    parts = [written(store, BODY[:150_000]) for _ in range(2)]
    with ThreadPoolExecutor(3) as threads:
        finishing = threads.submit(store.finish, parts[:1])
        saving = threads.submit(parts[1].checkpoint)
        deleting = threads.submit(store.delete, [parts[1].name] * 50)
        assert held.waited.wait(60)
        store.close()

        [failure] = finishing.result(60)
        checkpoint = saving.result(60)
        refusal = deleting.exception(60)

    assert failure is not None
    assert checkpoint.length == 0
    assert refusal is None or "closed" in str(refusal)
    assert "closed" in str(store._threads.submit(int).exception())
    held.go_on.set()


def test_names_are_candidates_of_a_sweep_when_old_while_the_stores_id_holds(
    store: ObjectStore, bucket: Bucket
) -> None:
    """R16."""
    growing, whole = written(store), written(store)
    growing.checkpoint()
    growing.close()
    store.finish([whole])
    store.enrol("a")
    store.enrol("b")

    assert store.tenants() == {"a", "b"}
    assert list(store.sweepable(timedelta(days=1))) == []
    assert set(store.sweepable(timedelta(days=-1))) == {growing.name, whole.name}

    bucket.put("store-id", b"0" * 32)
    assert list(store.sweepable(timedelta(days=-1))) == []
