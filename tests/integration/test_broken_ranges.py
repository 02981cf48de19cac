"""What becomes of a record whose origin answers ranges wrongly, or changes meanwhile.

The judgements by themselves are tested in ``test_ranges``: here a worker acts on them,
and whatever it calls a success has the bytes of one version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.integration.trial import Trials
from tests.integration.wire import Play, Scripted

BODY = b"0123456789"
NEWER = b"abcdefghij"
HALF = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the how manieth it is, and what it says of ranges."""

    number: int
    path: str
    range: str | None
    if_range: str | None


def answering(answer: Callable[[Asked], bytes], seen: list[Asked]) -> Play:
    """One answer on each connection, which ends with it."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        pairs = [row.partition(": ")[::2] for row in head.split("\r\n")[1:]]
        fields = {name.lower(): value for name, value in pairs}
        path = head.split(" ")[1]
        asked = Asked(len(seen), path, fields.get("range"), fields.get("if-range"))
        seen.append(asked)
        writer.write(answer(asked))
        await writer.drain()

    return play


def reply(status: str, *fields: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def full(body: bytes = BODY, etag: str = '"1"') -> bytes:
    return reply("200 OK", f"ETag: {etag}", f"Content-Length: {len(body)}", body=body)


def cut(body: bytes = BODY, etag: str = '"1"') -> bytes:
    """The first half of a full answer; then the connection ends."""
    return full(body, etag)[: HALF - len(body)]


def rest(body: bytes = BODY, etag: str = '"1"') -> bytes:
    """The other half, as it should be."""
    size = len(body)
    return reply(
        "206 Partial",
        f"ETag: {etag}",
        f"Content-Range: bytes {HALF}-{size - 1}/{size}",
        f"Content-Length: {size - HALF}",
        body=body[HALF:],
    )


async def test_a_body_that_is_cut_short_is_resumed(trial: Trials) -> None:
    """Faults row 42: from where it ended, with proof."""
    seen: list[Asked] = []
    script = answering(lambda asked: rest() if asked.range else cut(), seen)
    async with Scripted(script) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.body, outcome.attempts) == ("success", BODY, 2)
    assert (seen[1].range, seen[1].if_range) == ("bytes=5-", '"1"')


@pytest.mark.parametrize(
    ("field", "succeeds"),
    [
        ("Content-Range: bytes 0-9/10", True),
        ("Content-Range: bytes 5-14/15", False),
        ("Content-Range: bytes 0-8/10", False),
        ("Content-Range: bytes */10", False),
        ("Content-Range: pages 0-9/10", False),
        ("X: y", False),
    ],
)
async def test_a_206_that_nobody_asked_for_fails_its_record(
    trial: Trials, field: str, succeeds: bool
) -> None:
    """Faults row 48: unless it is all of it, which the specification lets pass.

    BF-RANGE-01.
    """
    seen: list[Asked] = []
    answer = reply("206 Partial", field, "Content-Length: 10", body=BODY)
    async with Scripted(answering(lambda _: answer, seen)) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    if succeeds:
        assert (outcome.result, outcome.body) == ("success", BODY)
    else:
        assert (outcome.result, outcome.body) == ("fetch-error", None)
        assert outcome.downloaded == 0
    assert len(seen) == 1


async def test_an_origin_without_ranges_begins_anew_and_so_does_progress(
    trial: Trials,
) -> None:
    """Faults row 49: a 200 to a Range of the same version."""
    seen: list[Asked] = []
    script = answering(lambda asked: full() if asked.number else cut(), seen)
    async with Scripted(script) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert seen[1].range == "bytes=5-"
    assert (outcome.result, outcome.body) == ("success", BODY)
    assert outcome.downloaded == len(BODY)


WRONG = {
    "another start": "Content-Range: bytes 4-8/10",
    "another end": "Content-Range: bytes 5-8/10",
    "another total": "Content-Range: bytes 5-9/11",
    "unknown total": "Content-Range: bytes 5-9/*",
    "unparsable": "Content-Range: bytes five to nine",
    "negative": "Content-Range: bytes -5-9/10",
    "end before start": "Content-Range: bytes 9-5/10",
    "beyond the total": "Content-Range: bytes 5-10/10",
    "none": "X: y",
    "two": "Content-Range: bytes 5-9/10\r\nContent-Range: bytes 6-9/10",
    "many": "Content-Type: multipart/byteranges; boundary=x\r\n"
    "Content-Range: bytes 5-9/10",
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
async def test_a_wrong_206_is_never_appended(trial: Trials, fields: str) -> None:
    """Faults row 50: the record begins again, and has the bytes of one answer.

    If it never goes right, it fails after three restarts.
    """
    wrong = reply(
        "206 Partial", 'ETag: "1"', fields, "Content-Length: 5", body=b"WRONG"
    )
    once: list[Asked] = []
    always: list[Asked] = []

    def mends(asked: Asked) -> bytes:
        return cut() if asked.number == 0 else wrong if asked.range else full()

    async with (
        Scripted(answering(mends, once)) as first,
        Scripted(answering(lambda a: wrong if a.range else cut(), always)) as second,
        trial() as worker,
    ):
        mended = await worker.outcome(first.url)
        broken = await worker.outcome(second.url)

    assert (mended.result, mended.body) == ("success", BODY)
    assert [asked.range for asked in once] == [None, "bytes=5-", None]
    assert (broken.result, broken.body) == ("fetch-error", None)
    assert sum(asked.range is None for asked in always) == 4


async def test_a_resource_that_changed_begins_anew(trial: Trials) -> None:
    """Faults rows 51 and 55: a 200 to If-Range; old bytes are given up."""
    seen: list[Asked] = []
    script = answering(lambda a: full(NEWER, '"2"') if a.number else cut(), seen)
    async with Scripted(script) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert seen[1].if_range == '"1"'
    assert (outcome.result, outcome.body) == ("success", NEWER)
    assert outcome.downloaded == len(NEWER)


@pytest.mark.parametrize("etag", ['W/"1"', "1", ""])
async def test_without_a_strong_validator_nothing_is_resumed(
    trial: Trials, etag: str
) -> None:
    """Faults row 52: a weak ETag, or what is none; all of it is asked for."""
    seen: list[Asked] = []
    script = answering(
        lambda a: full(BODY, etag) if a.number else cut(NEWER, etag), seen
    )
    async with Scripted(script) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert (seen[1].range, seen[1].if_range) == (None, None)
    assert (outcome.result, outcome.body) == ("success", BODY)


async def test_an_etag_that_is_never_the_same_restarts_no_more_than_it_may(
    trial: Trials,
) -> None:
    """Faults row 53: an answer that comes whole ends it; if none does, it fails."""
    late: list[Asked] = []
    never: list[Asked] = []

    def changing(asked: Asked) -> bytes:
        answer = full if asked.number == 3 else cut
        return answer(BODY, f'"{asked.number}"')

    async with (
        Scripted(answering(changing, late)) as first,
        Scripted(answering(lambda a: cut(BODY, f'"{a.number}"'), never)) as second,
        trial() as worker,
    ):
        whole = await worker.outcome(first.url)
        broken = await worker.outcome(second.url)

    assert (whole.result, whole.body) == ("success", BODY)
    assert (broken.result, broken.body) == ("fetch-error", None)
    assert len(never) <= 12


@pytest.mark.parametrize(("size", "succeeds"), [(10, True), (11, False)])
async def test_a_416_completes_what_is_whole(
    trial: Trials, size: int, succeeds: bool
) -> None:
    """Faults row 54: all bytes came, and the end of the chunks did not."""
    seen: list[Asked] = []
    chunked = reply("200 OK", 'ETag: "1"', "Transfer-Encoding: chunked")
    nothing_more = reply(
        "416 No", 'ETag: "1"', f"Content-Range: bytes */{size}", "Content-Length: 0"
    )

    def answer(asked: Asked) -> bytes:
        if asked.range:
            return nothing_more
        return full(NEWER, '"2"') if asked.number else chunked + b"a\r\n" + BODY

    async with Scripted(answering(answer, seen)) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert seen[1].range == "bytes=10-"
    assert (outcome.result, outcome.body) == ("success", BODY if succeeds else NEWER)
    assert len(seen) == (2 if succeeds else 3)


@pytest.mark.parametrize("etags", ['"1" "1"', '"1" "2"'])
@pytest.mark.parametrize("honest", [True, False])
async def test_a_redirect_that_leads_elsewhere_next_time_mixes_nothing(
    trial: Trials, etags: str, honest: bool
) -> None:
    """Faults rows 32 and 56: other bytes of the same length, at another origin.

    There are no mirrors here but those of a redirect. An equal ETag of another origin
    proves nothing (R7); nor does a 206 that takes no notice of If-Range.
    """
    first_etag, second_etag = etags.split(" ")
    here: list[Asked] = []
    there: list[Asked] = []
    hops: list[Asked] = []

    def second(asked: Asked) -> bytes:
        if not asked.range or (honest and asked.if_range != second_etag):
            return full(NEWER, second_etag)
        return rest(NEWER, second_etag)

    async with (
        Scripted(answering(lambda _: cut(BODY, first_etag), here)) as first_origin,
        Scripted(answering(second, there)) as second_origin,
        Scripted(
            answering(
                lambda a: reply(
                    "302 Go",
                    f"Location: {(second_origin if a.number else first_origin).url}",
                    "Content-Length: 0",
                ),
                hops,
            )
        ) as mirrors,
        trial() as worker,
    ):
        outcome = await worker.outcome(mirrors.url)

    assert there[0].range == "bytes=5-"
    assert (outcome.result, outcome.body) == ("success", NEWER)
    assert len(here) == 1
