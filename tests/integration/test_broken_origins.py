"""What becomes of a record whose origin is away, silent or breaks the protocol.

The exchanges by themselves are tested in ``test_hostile_origins`` and
``test_slow_origins``: here a worker makes of each what the rulings on retries say.
"""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import pytest

from schemas.addresses import AddressPolicy
from schemas.requests import Request
from tests.integration.trial import Outcome, Trials
from tests.integration.wire import Play, Scripted, resident_bytes

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MiB = 1024 * 1024
SOON = timedelta(milliseconds=200)
ATTEMPTS = 2


def failed_at_once(outcome: Outcome) -> bool:
    """FE: nothing of it is stored, and nobody asks again."""
    return (outcome.result, outcome.attempts, outcome.body, outcome.failure_reason) == (
        "fetch-error",
        1,
        None,
        "fetch-error",
    )


def failed_again(outcome: Outcome, attempts: int = ATTEMPTS) -> bool:
    """RETRY, then FE: as often as the settings say."""
    return (outcome.result, outcome.attempts, outcome.failure_reason) == (
        "fetch-error",
        attempts,
        "fetch-error",
    )


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"\r\n")
    while True:
        writer.write(bytes(MiB))
        await writer.drain()


async def test_an_origin_that_refuses_is_tried_until_the_deadline(
    trial: Trials,
) -> None:
    """Faults row 35: refused and unreachable, beyond the attempts of one that is there.

    Nothing else is wrong with the fetch, so that it is kept as if offline.
    """
    policy = AddressPolicy.parse("loopback, 255.255.255.255")
    async with Scripted(b"") as gone:
        pass
    urls = [gone.url, f"http://255.255.255.255:{gone.port}/"]
    async with trial(
        max_attempts=1, deadline=timedelta(seconds=1), allow_networks=policy
    ) as worker:
        registration = await worker.fetch(*urls)
        records = [await each.refresh() for each in await registration.match_all()]

    for record in records:
        assert record.result == "fetch-error"
        assert record.failure_reason.startswith("offline: ")
        assert record.attempts > 1


async def test_an_origin_that_swallows_connections_is_tried_until_the_deadline(
    trial: Trials,
) -> None:
    """Faults row 35: a black hole; a full queue answers no further SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        async with trial(connect_timeout=SOON, deadline=SOON * 3) as worker:
            outcome = await worker.outcome(f"http://127.0.0.1:{address[1]}/")
        for connection in waiting:
            connection.close()

    assert outcome.result == "fetch-error"
    assert outcome.detail.startswith("offline: ")


@pytest.mark.parametrize("script", [silent, dripping], ids=["silent", "dripping"])
async def test_an_origin_without_a_head_fails_its_record_in_the_end(
    trial: Trials, script: Play
) -> None:
    """Faults rows 36 and 37: at the limit for the whole head, on each attempt."""
    async with (
        Scripted(script) as origin,
        trial(first_byte_timeout=SOON, max_attempts=ATTEMPTS) as worker,
    ):
        outcome = await worker.outcome(origin.url)

    assert failed_again(outcome)
    assert outcome.detail == "network: no whole response head within 0.2 s"


async def test_an_endless_body_stops_at_the_download_total_or_the_limit(
    trial: Trials,
) -> None:
    """Faults rows 38 and 39, R18: the total, or BGFETCH_MAX_RECORD_BYTES; no memory."""
    most = 2 * MiB
    async with Scripted(endless) as origin, trial() as worker:
        await worker.outcome(origin.url, download_total=1)
        before = resident_bytes()
        total = await worker.outcome(origin.url, download_total=most)
        assert resident_bytes() - before < 48 * MiB
    async with Scripted(endless) as origin, trial(max_record_bytes=most) as worker:
        limited = await worker.outcome(origin.url)

    assert total.failure_reason == "download-total-exceeded"
    assert total.downloaded <= most
    assert limited.result == "quota-exceeded"
    assert limited.downloaded <= most


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"X: " + b"a" * MiB + b"\r\n" + FIVE, id="line of 1 MiB"),
        pytest.param(
            OK + (b"X: " + b"a" * 9996 + b"\r\n") * 1049 + FIVE, id="10 MiB in all"
        ),
        pytest.param(OK + b"X: aaaaaaaaaaaaaaaa\r\n" * 10_000 + FIVE, id="many lines"),
        pytest.param(
            CHUNKED + b"0\r\n" + b"T: u\r\n" * 50_000 + b"\r\n", id="many trailers"
        ),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" * 20_000 + OK + FIVE, id="1xx flood"),
    ],
)
async def test_a_head_beyond_the_limit_fails_its_record_at_once(
    trial: Trials, answer: bytes
) -> None:
    """Faults row 39, within 16 MiB."""
    async with Scripted(OK + FIVE, answer) as origin, trial() as worker:
        await worker.outcome(origin.url)
        before = resident_bytes()
        outcome = await worker.outcome(origin.url)
        assert resident_bytes() - before < 16 * MiB

    assert failed_at_once(outcome)
    assert outcome.detail.startswith("limit: ")


def lengths(*values: bytes) -> bytes:
    fields = b"".join(b"Content-Length: " + value + b"\r\n" for value in values)
    return OK + fields + b"\r\nhello"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"X: a\0b\r\n" + FIVE, id="40 NUL"),
        pytest.param(OK + b"X: a\x01b\r\n" + FIVE, id="40 control byte"),
        pytest.param(OK + b"Xab\r\n" + FIVE, id="40 no colon"),
        pytest.param(lengths(b"-1"), id="41 negative"),
        pytest.param(lengths(b"+5"), id="41 sign"),
        pytest.param(lengths(b"5abc"), id="41 letters"),
        pytest.param(lengths(b"5 5"), id="41 space"),
        pytest.param(lengths(b"0x5"), id="41 hexadecimal"),
        pytest.param(lengths(b"1" + b"0" * 22), id="41 10^22"),
        pytest.param(lengths(b"5, 6"), id="41 unequal list"),
        pytest.param(lengths(b"5", b"6"), id="41 two"),
        pytest.param(CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", id="44 size"),
        pytest.param(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", id="44 negative"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\nhello\r\n", id="44 overflow"),
        pytest.param(CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", id="44 no CRLF"),
        pytest.param(OK + b"Transfer-Encoding: evil\r\n\r\n", id="45 unknown"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="45 gzip"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n", id="45 twice"
        ),
    ],
)
async def test_what_is_malformed_fails_its_record_at_once(
    trial: Trials, answer: bytes
) -> None:
    """Faults rows 40, 41, 44 and 45."""
    async with Scripted(answer) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert failed_at_once(outcome)
    assert outcome.detail.startswith("malformed: ")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lengths(b"5", b"5"), id="41 equal lengths"),
        pytest.param(lengths(b"5, 5"), id="41 equal list"),
        pytest.param(
            OK
            + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"5\r\nhello\r\n0\r\n\r\n",
            id="43 length and chunks",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: identity\r\n\r\nhello", id="45 identity"
        ),
    ],
)
async def test_what_is_odd_but_clear_succeeds(trial: Trials, answer: bytes) -> None:
    """Faults rows 41, 43 and 45: by the chunks, where there are chunks."""
    async with Scripted(answer) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.body) == ("success", b"hello")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(CHUNKED + b"50\r\nhello", id="half a chunk"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n", id="no last chunk"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n", id="no end of trailers"),
        pytest.param(OK + b"Content-Length: 9\r\n\r\nhello", id="half a body"),
    ],
)
async def test_a_body_that_always_breaks_off_never_succeeds(
    trial: Trials, answer: bytes
) -> None:
    """Faults rows 42 and 44: without a validator, from zero on each attempt.

    The first has stored bytes, which pardons it once.
    """
    async with Scripted(answer) as origin, trial(max_attempts=ATTEMPTS) as worker:
        outcome = await worker.outcome(origin.url)

    assert outcome.result == "fetch-error"
    assert outcome.attempts > 1
    assert outcome.body is None


async def test_a_long_chunk_extension_is_passed_over_in_no_memory(
    trial: Trials,
) -> None:
    """Faults row 44: the bytes are whole all the same, so that this is a success.

    libcurl keeps none of it, however long, and shows none of it; an extension without
    end brings no byte of the body, and ends as a body that stalls.
    """

    async def extended(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(CHUNKED + b"5;x=")
        for _ in range(32):
            writer.write(b"a" * MiB)
            await writer.drain()
        writer.write(b"\r\nhello\r\n0\r\n\r\n")

    async def without_end(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(CHUNKED + b"5;x=")
        while not writer.is_closing():
            writer.write(b"a" * 1000)
            await writer.drain()
            await asyncio.sleep(0.01)

    short = CHUNKED + b"5;x=" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"
    async with (
        Scripted(short, extended, without_end) as origin,
        trial(stall_timeout=SOON * 2, max_attempts=1) as worker,
    ):
        first = await worker.outcome(origin.url)
        before = resident_bytes()
        second = await worker.outcome(origin.url)
        assert resident_bytes() - before < 16 * MiB
        third = await worker.outcome(origin.url)

    assert [(each.result, each.body) for each in (first, second)] == [
        ("success", b"hello")
    ] * 2
    assert third.result == "fetch-error"
    assert third.detail.startswith("network: less than 1 byte/s")


@pytest.mark.parametrize(
    ("status", "result"),
    [(b"204 No", "success"), (b"205 Reset", "success"), (b"304 Same", "bad-status")],
)
async def test_a_body_that_may_not_be_is_not_there(
    trial: Trials, status: bytes, result: str
) -> None:
    """Faults row 47: Fetch § null body status; the next answer does not begin with it.

    Of a 205 the length is told, so that its bytes can be read away.
    """
    evil = b"HTTP/1.1 " + status + b"\r\n" + FIVE
    async with Scripted(evil, keep=True) as origin, trial() as worker:
        outcomes = [await worker.outcome(origin.url) for _ in range(2)]

    for outcome in outcomes:
        assert (outcome.result, outcome.attempts) == (result, 1)
        assert (outcome.body, outcome.downloaded) == (b"", 0)


async def test_a_body_after_a_head_request_is_not_there(trial: Trials) -> None:
    """Faults row 47: what follows is on a connection that is not used again."""
    async with Scripted(OK + FIVE, keep=True) as origin, trial() as worker:
        outcome = await worker.outcome(Request(origin.url, method="HEAD"))
        after = await worker.outcome(origin.url)

        assert origin.connections == 2
    assert (outcome.result, outcome.body) == ("success", b"")
    assert (after.result, after.body) == ("success", b"hello")


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451, 520, 527])
async def test_a_status_that_stays_is_bad_at_once(trial: Trials, status: int) -> None:
    """Faults rows 59 and 60: 520 to 527 are no statuses of HTTP's, and not retried.

    The ruling on retries names the statuses that are.
    """
    answer = b"HTTP/1.1 %d No\r\n" % status + FIVE
    async with Scripted(answer) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.attempts) == ("bad-status", 1)
    assert (outcome.body, outcome.failure_reason) == (b"hello", "bad-status")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_status_that_may_pass_is_bad_in_the_end(
    trial: Trials, status: int
) -> None:
    """Faults row 60: with the body of the last answer."""
    answer = b"HTTP/1.1 %d No\r\n" % status + FIVE
    async with Scripted(answer) as origin, trial(max_attempts=ATTEMPTS) as worker:
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.attempts) == ("bad-status", ATTEMPTS)
    assert (outcome.body, outcome.failure_reason) == (b"hello", "bad-status")
