"""What becomes of a record whose origin breaks HTTP/2, or uses it as a weapon."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from schemas.requests import Request
from tests.integration.frames import (
    END_HEADERS,
    END_STREAM,
    INITIAL_WINDOW_SIZE,
    LARGEST,
    Code,
    Kind,
    asked,
    begin,
    data,
    fields,
    frame,
    goaway,
    head,
    indexed,
    refused,
    reset,
    setting,
)
from tests.integration.trial import Outcome, Trials
from tests.integration.wire import Play, Scripted, resident_bytes

ATTEMPTS = 2
SOON = timedelta(milliseconds=300)
MiB = 1024 * 1024
BODY = b"0123456789"
LENGTH = ("content-length", "10")
ETAG = ("etag", '"1"')


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """An origin's side of TLS, which speaks HTTP/2 and which workers trust."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setattr("certifi.where", lambda: str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    return context


def answering(*frames: bytes) -> Play:
    """Answer a request with these frames, and hang up once they were refused."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin(reader, writer)
        for each in frames:
            writer.write(each)
            await writer.drain()
        await refused(reader)

    return play


async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as it should be."""
    stream = await begin(reader, writer)
    while True:
        writer.write(head(stream, LENGTH) + data(stream, BODY, end=True))
        await writer.drain()
        stream = await asked(reader, writer)


def broken(*ends: bytes) -> Play:
    """Break off midway, this connection at least, and have the rest after that."""
    half = [head(1, LENGTH, ETAG), data(1, BODY[:5]), *ends]

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = await begin(reader, writer)
        if half:
            writer.write(b"".join(half))
            half.clear()
            stream = await asked(reader, writer)
        rest = ("content-range", "bytes 5-9/10")
        writer.write(head(stream, rest, ("content-length", "5"), ETAG, status=206))
        writer.write(data(stream, BODY[5:], end=True))
        await refused(reader)

    return play


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(reset(1, Code.INTERNAL_ERROR), id="RST_STREAM"),
        pytest.param(reset(1, Code.NO_ERROR), id="RST_STREAM without an error"),
        pytest.param(goaway(0, Code.ENHANCE_YOUR_CALM), id="GOAWAY"),
        pytest.param(frame(Kind.DATA, 1, b"", END_STREAM), id="an early end"),
    ],
)
async def test_a_stream_that_ends_midway_is_resumed(
    trial: Trials, tls: ssl.SSLContext, ends: bytes
) -> None:
    """Faults row 62: RST_STREAM and GOAWAY midway."""
    async with (
        Scripted(broken(ends), tls=tls) as origin,
        trial() as worker,
    ):
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.body) == ("success", BODY)
    assert outcome.attempts == 2


async def test_a_connection_that_is_leaving_ends_what_it_has_begun(
    trial: Trials, tls: ssl.SSLContext
) -> None:
    """Faults row 62: a GOAWAY in good order; the next record finds another one."""
    leaving = answering(
        head(1, LENGTH) + data(1, BODY[:5]),
        goaway(1, Code.NO_ERROR),
        data(1, BODY[5:], end=True),
    )
    async with Scripted(leaving, whole, tls=tls) as origin, trial() as worker:
        outcomes = [await worker.outcome(origin.url) for _ in range(2)]

        assert origin.connections == 2
    for outcome in outcomes:
        assert (outcome.body, outcome.attempts) == (BODY, 1)


async def test_a_refused_stream_is_asked_for_again(
    trial: Trials, tls: ssl.SSLContext
) -> None:
    """Faults row 62: the origin has done nothing with it (RFC 9113 § 8.7)."""
    not_now = answering(reset(1, Code.REFUSED_STREAM))
    async with Scripted(not_now, whole, tls=tls) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert outcome.body == BODY


def flooding(first: bytes, again: bytes, times: int, last: bytes = b"") -> Play:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin(reader, writer)
        writer.write(first)
        reading = asyncio.create_task(refused(reader))
        try:
            for _ in range(times):
                if reading.done():
                    return
                writer.write(again)
                await writer.drain()
            writer.write(last)
            await reading
        finally:
            reading.cancel()

    return play


SHORT = fields((":status", "200"))
FIELD = indexed("x", "y" * 4000)
BOMB = SHORT + FIELD + b"\xbe" * (LARGEST - len(SHORT) - len(FIELD))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            flooding(
                frame(Kind.HEADERS, 1, SHORT),
                frame(Kind.CONTINUATION, 1, fields(("x", "y" * 16_000))),
                4000,
            ),
            id="CONTINUATION flood",
        ),
        pytest.param(
            flooding(
                frame(Kind.HEADERS, 1, SHORT), frame(Kind.CONTINUATION, 1) * 100, 1000
            ),
            id="empty CONTINUATION flood",
        ),
        pytest.param(
            answering(frame(Kind.HEADERS, 1, BOMB, END_HEADERS)), id="HPACK bomb"
        ),
        pytest.param(
            flooding(head(1, LENGTH), head(1, status=103), 10_000), id="heads for ever"
        ),
        pytest.param(
            flooding(head(1, status=103), head(1, status=103), 20_000),
            id="1xx flood",
        ),
        pytest.param(
            answering(
                frame(Kind.PUSH_PROMISE, 1, (2).to_bytes(4) + SHORT, END_HEADERS)
            ),
            id="PUSH_PROMISE",
        ),
        pytest.param(
            answering(frame(Kind.HEADERS, 1, b"\xff\xff\xff\xff\xff", END_HEADERS)),
            id="no header block",
        ),
        pytest.param(
            answering(head(1, ("X-Upper", "y")) + data(1, b"", end=True)),
            id="a name in upper case",
        ),
        pytest.param(
            answering(
                frame(Kind.HEADERS, 1, fields(("x", "y")), END_HEADERS)
                + data(1, b"hello", end=True)
            ),
            id="no status",
        ),
        pytest.param(
            answering(head(1, LENGTH) + data(1, BODY + b"more", end=True)),
            id="more than its length",
        ),
        pytest.param(
            answering(head(1) + frame(Kind.DATA, 3, b"x") * 3 + b"\xff" * 64),
            id="frames of nothing",
        ),
    ],
)
async def test_an_attack_on_a_head_fails_its_record_in_little_memory(
    trial: Trials, tls: ssl.SSLContext, script: Play
) -> None:
    """Faults row 62: CONTINUATION flood, HPACK bomb, and others of their kind."""
    async with (
        Scripted(whole, script, tls=tls) as origin,
        Scripted(script, tls=tls) as hostile,
        trial(max_attempts=ATTEMPTS, first_byte_timeout=SOON * 20) as worker,
    ):
        await worker.outcome(origin.url)
        before = resident_bytes()
        outcome = await worker.outcome(hostile.url)
        assert resident_bytes() - before < 32 * MiB
        after = await worker.outcome(origin.url)

    assert failed(outcome)
    assert outcome.detail.partition(": ")[2]
    assert after.body == BODY


def failed(outcome: Outcome) -> bool:
    return outcome.result == "fetch-error" and outcome.attempts <= ATTEMPTS


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(frame(Kind.SETTINGS, 0, setting(3, 100)), id="SETTINGS"),
        pytest.param(frame(Kind.PING, 0, bytes(8)), id="PING"),
        pytest.param(frame(Kind.WINDOW_UPDATE, 0, (1).to_bytes(4)), id="WINDOW_UPDATE"),
        pytest.param(frame(Kind.DATA, 1), id="empty DATA"),
    ],
)
async def test_a_flood_of_frames_is_answered_or_refused(
    trial: Trials, tls: ssl.SSLContext, again: bytes
) -> None:
    """Faults row 62: 10,000 SETTINGS, and others that ask for an answer each.

    libcurl may keep up with them; then the body that follows is a success.
    """
    script = flooding(head(1, LENGTH), again, 10_000, last=data(1, BODY, end=True))
    async with (
        Scripted(script, tls=tls) as origin,
        trial(max_attempts=ATTEMPTS, stall_timeout=SOON * 20) as worker,
    ):
        before = resident_bytes()
        outcome = await worker.outcome(origin.url)
        assert resident_bytes() - before < 32 * MiB

    assert failed(outcome) or (outcome.result, outcome.body) == ("success", BODY)


async def test_a_body_that_stalls_fails_its_record_in_the_end(
    trial: Trials, tls: ssl.SSLContext
) -> None:
    """Faults row 62: as where a window is exhausted; empty frames are no progress."""
    silent = answering(head(1, LENGTH))
    busy = flooding(head(1, LENGTH), frame(Kind.DATA, 1) * 100, 10**9)
    async with (
        Scripted(silent, tls=tls) as first,
        Scripted(busy, tls=tls) as second,
        trial(max_attempts=ATTEMPTS, stall_timeout=SOON) as worker,
    ):
        outcomes = [await worker.outcome(each.url) for each in (first, second)]

    for outcome in outcomes:
        assert failed(outcome)


async def test_an_early_hint_is_passed_over(trial: Trials, tls: ssl.SSLContext) -> None:
    hint = head(1, ("link", "</x>"), status=103)
    script = answering(hint * 3, head(1, LENGTH) + data(1, BODY, end=True))
    async with Scripted(script, tls=tls) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.body) == ("success", BODY)


async def test_a_window_that_stays_shut_fails_its_request(
    trial: Trials, tls: ssl.SSLContext
) -> None:
    """Faults row 62: a window of 0, so that a body cannot be sent; it is sent once."""

    async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin(reader, writer, setting(INITIAL_WINDOW_SIZE, 0))
        await reader.read()

    async with (
        Scripted(shut, tls=tls) as origin,
        trial(first_byte_timeout=SOON) as worker,
    ):
        post = Request(origin.url, method="POST", body=b"x" * 100)
        outcome = await worker.outcome(post)

    assert (outcome.result, outcome.attempts) == ("fetch-error", 1)
    assert outcome.detail == "network: no whole response head within 0.3 s"
