"""A record succeeds only with the bytes that its caller and its origin name."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import threading
from base64 import b64encode

import pytest

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.parts import FilePart
from broker.record import BackgroundFetchRecord
from broker.settings import Settings
from schemas.errors import RecordFailed
from schemas.fetches import FailureReason, Result
from schemas.records import Digest
from schemas.requests import Request
from tests.integration.clock import SCOPE
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = bytes(range(256)) * 1024
OTHER = BODY[::-1]


def base64(algorithm: str, body: bytes) -> str:
    return b64encode(hashlib.new(algorithm, body).digest()).decode()


def sri(algorithm: str, body: bytes) -> str:
    return f"{algorithm}-{base64(algorithm, body)}"


def digest(name: str, body: bytes, algorithm: str = "sha256") -> dict[str, str]:
    key = algorithm.replace("sha", "sha-")
    return {name: f"{key}=:{base64(algorithm, body)}:"}


async def fetch(
    manager: BackgroundFetchManager, engine: Engine, request: Request | str
) -> BackgroundFetchRecord:
    registration = await manager.fetch("x", request)
    async with asyncio.timeout(20):
        await engine.perform(SCOPE, registration.uid, "job")
    [record] = await registration.match_all()
    return await record.refresh()


async def read(record: BackgroundFetchRecord) -> bytes:
    return await (await record.response_ready).raw.read()


def files(settings: Settings) -> int:
    """Parts and blobs in the store."""
    places = [settings.store_directory / name for name in ("parts", "blobs")]
    return sum(len(list(place.iterdir())) for place in places)


@pytest.mark.parametrize(
    "integrity",
    [
        sri("sha256", BODY),
        sri("sha384", BODY),
        f"{sri('sha512', OTHER)} {sri('sha512', BODY)}",
        f"{sri('sha256', OTHER)} {sri('sha384', BODY)}?x",
        "md5-abc sha1-abc nonsense",
    ],
)
async def test_a_body_that_has_a_demanded_digest_succeeds(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, integrity: str
) -> None:
    """Faults 57: right, several, the strongest, unknown ones; across a resume (R6)."""
    origin.add("/a", BODY, cut_after=[100_000])

    record = await fetch(
        manager, engine, Request(origin.url("/a"), integrity=integrity)
    )

    assert record.result == "success"
    assert await read(record) == BODY
    assert len(origin.log) == 2


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
async def test_a_body_without_the_demanded_digest_fails_at_once_with_both(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    algorithm: str,
) -> None:
    """Faults 57: SRI wrong. Nothing of it stays on disk, or is called a blob."""
    origin.add("/a", BODY)
    request = Request(origin.url("/a"), integrity=sri(algorithm, OTHER))

    record = await fetch(manager, engine, request)

    assert record.result == "fetch-error"
    assert record.failure_reason == (
        f"integrity: expected {sri(algorithm, OTHER)}, found {sri(algorithm, BODY)}"
    )
    with pytest.raises(RecordFailed):
        await record.response_ready
    assert len(origin.log) == 1
    assert files(settings) == 0


async def test_an_error_page_is_no_proved_body_either(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Fetch § main fetch, where integrity does not depend on the status."""
    origin.add("/a", b"not here", status=404)
    request = Request(origin.url("/a"), integrity=sri("sha256", BODY))

    record = await fetch(manager, engine, request)

    assert record.result == "fetch-error"
    assert record.failure_reason.startswith("status 404 Not Found; integrity: expected")


async def test_no_response_is_shown_before_its_bytes_are_proved(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Fetch § main fetch: a body with integrity is handed over whole or not at all."""
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold)
    request = Request(origin.url("/a"), integrity=sri("sha256", OTHER))
    registration = await manager.fetch("x", [request, origin.url("/a")])
    working = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    async for progress in registration.progress():
        if progress.downloaded == len(BODY):  # half of each, and both heads are known
            break
    demanding, plain = await registration.match_all()

    await plain.response_ready
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await demanding.response_ready
    hold.set()
    await working

    with pytest.raises(RecordFailed, match="integrity: expected"):
        await demanding.response_ready


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("name", ["Repr-Digest", "Content-Digest"])
async def test_a_body_that_its_origin_disowns_is_fetched_once_more_then_fails(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    name: str,
    algorithm: str,
) -> None:
    """Faults 57: RFC 9530 digests wrong, with both in the reason."""
    origin.add("/a", BODY, headers=digest(name, OTHER, algorithm))

    record = await fetch(manager, engine, origin.url("/a"))

    assert record.result == "fetch-error"
    assert record.failure_reason == (
        f"{name}: expected {sri(algorithm, OTHER)}, found {sri(algorithm, BODY)}"
    )
    assert [seen.headers.get("range") for seen in origin.log] == [None, None]
    assert files(settings) == 0


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5"])
@pytest.mark.parametrize("name", ["Repr-Digest", "Content-Digest"])
async def test_a_body_with_the_digest_of_its_origin_succeeds(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    name: str,
    algorithm: str,
) -> None:
    """Faults 57: right; one under an algorithm that proves nothing is ignored."""
    body = OTHER if algorithm == "md5" else BODY
    headers = {"Content-Encoding": "gzip", **digest(name, body, algorithm)}
    origin.add("/a", BODY, headers=headers)

    record = await fetch(manager, engine, origin.url("/a"))

    assert record.result == "success"
    assert await read(record) == BODY
    assert len(origin.log) == 1


async def test_a_fault_of_the_transfer_is_made_good_by_the_second_one(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, settings: Settings
) -> None:
    """The bytes of each transfer have a part of their own (R3)."""
    hold = asyncio.Event()
    headers = digest("Repr-Digest", BODY)
    origin.add("/a", OTHER, headers=headers, hold=hold)
    registration = await manager.fetch("x", origin.url("/a"))
    working = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    async for progress in registration.progress():
        if progress.downloaded:
            break

    origin.replace("/a", BODY)  # what is under way goes on with the wrong bytes
    hold.set()
    await working

    await registration.refresh()
    [record] = await registration.match_all()
    assert await read(record) == BODY
    assert len(origin.log) == 2
    assert (registration.downloaded, files(settings)) == (len(BODY), 1)


async def test_after_a_resume_the_whole_is_compared_with_the_repr_digest_alone(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """RFC 9530: a Content-Digest is of one answer, of which two brought the body."""
    headers = digest("Repr-Digest", BODY) | digest("Content-Digest", OTHER)
    origin.add("/a", BODY, headers=headers, cut_after=[100_000, 50_000])

    record = await fetch(manager, engine, origin.url("/a"))

    assert record.result == "success"
    assert record.attempts == 3
    assert await read(record) == BODY


async def test_a_resumed_body_that_its_origin_disowns_begins_again_from_zero(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """Bounded: one more transfer, which is not resumed from what was disowned."""
    headers = digest("Repr-Digest", OTHER)
    origin.add("/a", BODY, headers=headers, cut_after=[100_000])

    registration = await manager.fetch("x", origin.url("/a"))
    async with asyncio.timeout(20):
        await engine.perform(SCOPE, registration.uid, "job")
    await registration.refresh()

    assert registration.result is Result.FAILURE
    assert registration.failure_reason is FailureReason.FETCH_ERROR
    resumed = [seen.headers.get("range") is not None for seen in origin.log]
    assert resumed == [False, True, False]


@pytest.mark.parametrize(
    ("named", "result"), [(BODY, "success"), (OTHER, "fetch-error")]
)
async def test_a_lane_that_leaves_while_it_verifies_leaves_the_proof_to_the_next(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    named: bytes,
    result: str,
) -> None:
    """Guarantee 7: what is whole but unproved is no blob; nothing is fetched twice."""
    verifying, left = threading.Event(), threading.Event()
    origin.add("/a", BODY)
    request = Request(origin.url("/a"), integrity=sri("sha512", named))
    registration = await manager.fetch("x", request)
    first = Engine(settings, reclaiming=False)
    await first.start()

    def slow(part: FilePart, algorithm: str) -> bytes:
        verifying.set()
        assert left.wait(10)
        return b""

    with monkeypatch.context() as patch:
        patch.setattr(FilePart, "digest_in", slow)
        working = asyncio.create_task(first.perform(SCOPE, registration.uid, "job"))
        assert await asyncio.to_thread(verifying.wait, 10)
        await first.drain()
        await working
        await first.aclose()
        left.set()
    blobs = list((settings.store_directory / "blobs").iterdir())
    async with asyncio.timeout(20):
        await engine.perform(SCOPE, registration.uid, "job")

    [record] = await registration.match_all()
    assert (await record.refresh()).result == result
    assert blobs == []
    ranges = [seen.headers.get("range") for seen in origin.log]
    assert ranges == [None, f"bytes={len(BODY)}-"]


async def test_the_digest_of_the_whole_says_nothing_of_a_slice(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-RANGE-18: the caller's own range is the resource."""
    slice_ = BODY[10:1000]
    headers = digest("Repr-Digest", BODY) | digest("Content-Digest", slice_)
    origin.add("/a", BODY, headers=headers)
    request = Request(
        origin.url("/a"),
        headers={"Range": "bytes=10-999"},
        integrity=sri("sha256", slice_),
    )

    record = await fetch(manager, engine, request)

    assert record.result == "success"
    assert await read(record) == slice_


async def test_a_disowned_answer_to_a_post_is_not_asked_for_again(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-REC-11."""
    origin.add("/a", BODY, headers=digest("Content-Digest", OTHER))

    record = await fetch(manager, engine, Request(origin.url("/a"), method="POST"))

    assert record.result == "fetch-error"
    assert len(origin.log) == 1


async def test_a_malformed_digest_field_is_ignored(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """RFC 9651 § 4.2; faults 57."""
    origin.add("/a", BODY, headers={"Repr-Digest": "SHA-256=abc", "Content-Digest": ""})

    record = await fetch(manager, engine, origin.url("/a"))

    assert record.result == "success"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_integrity_is_of_the_decoded_body_and_an_origin_s_digest_of_the_coded_one(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, algorithm: str
) -> None:
    """Fetch § main fetch checks what it has decoded; RFC 9530 § 3 what is sent."""
    coded = gzip.compress(BODY)
    headers = {"Content-Encoding": "gzip", **digest("Repr-Digest", coded, algorithm)}
    origin.add("/a", coded, headers=headers, cut_after=[500])
    request = Request(origin.url("/a"), integrity=sri(algorithm, BODY))

    record = await fetch(manager, engine, request)

    assert record.result == "success"
    assert await (await record.response_ready).read() == BODY


@pytest.mark.parametrize(
    ("coded", "reason"),
    [
        (gzip.compress(OTHER), "integrity: expected "),
        (gzip.compress(BODY)[:-1], "integrity: .* ends before its gzip does"),
        (gzip.compress(bytes(300 * 2**20)), "integrity: .* BGFETCH_MAX_DECODED_RATIO"),
    ],
    ids=["another body", "truncated", "bomb"],
)
async def test_a_coded_body_that_cannot_be_proved_fails(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    coded: bytes,
    reason: str,
) -> None:
    """Faults 46, 57."""
    origin.add("/a", coded, headers={"Content-Encoding": "gzip"})
    request = Request(origin.url("/a"), integrity=sri("sha256", BODY))

    record = await fetch(manager, engine, request)

    assert record.result == "fetch-error"
    assert re.match(reason, record.failure_reason)
    assert files(settings) == 0


async def test_without_digests_nothing_is_hashed_but_what_is_demanded_still_proved(
    manager: BackgroundFetchManager,
    origin: Origin,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``BGFETCH_DIGEST=none``, across a resume (R6)."""
    for path in ("/plain", "/right", "/wrong"):
        headers = {} if path == "/plain" else digest("Repr-Digest", BODY)
        origin.add(path, BODY, headers=headers, cut_after=[100_000])
    origin.replace("/wrong", OTHER)
    requests: list[str | Request] = [
        origin.url("/plain"),
        Request(origin.url("/right"), integrity=sri("sha256", BODY)),
        origin.url("/wrong"),
    ]
    read_back: list[str] = []

    def noted(part: FilePart, algorithm: str, decode: None = None) -> bytes:
        read_back.append(algorithm)
        return digest_in(part, algorithm, decode)

    digest_in = FilePart.digest_in
    monkeypatch.setattr(FilePart, "digest_in", noted)
    registration = await manager.fetch("x", requests)
    engine = Engine(settings.model_copy(update={"digest": Digest.NONE}))
    await engine.start()
    async with asyncio.timeout(20):
        await engine.perform(SCOPE, registration.uid, "job")
    await engine.aclose()

    plain, right, wrong = await registration.match_all()
    assert await read(plain) == await read(right) == BODY
    assert (await wrong.refresh()).result == "fetch-error"
    assert read_back == ["sha256"] * 4  # two demands of one, and two transfers
    keys = FetchKeys(SCOPE, registration.uid)
    for index in range(3):
        assert (await manager.reader.look(keys, index)).state.digest == ""
