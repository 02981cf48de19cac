"""What an answer is worth to the bytes already stored: BF-RANGE, R7, faults 48-55."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.records import ResponseHead, Validators
from workers.ranges import (
    MAX_RESTARTS,
    Complete,
    ContentRange,
    Ending,
    Fail,
    Restart,
    Store,
    Verdict,
    finished,
    judge,
    parse_content_range,
    range_headers,
    resumable,
    validators_of,
)

URL = "https://cdn.example/file"
DATE = "Tue, 03 Jan 2023 03:04:05 GMT"
DAY_BEFORE = "Mon, 02 Jan 2023 03:04:05 GMT"
MINUTE_BEFORE = "Tue, 03 Jan 2023 03:03:05 GMT"
ALMOST = "Tue, 03 Jan 2023 03:03:06 GMT"
STORED = 1000


Header = str | list[str] | None
FIRST: dict[str, Header] = {
    "etag": '"v1"',
    "last_modified": DAY_BEFORE,
    "date": DATE,
}


WHOLE: dict[str, Header] = {**FIRST, "content_length": "5000"}
REST: dict[str, Header] = {
    **FIRST,
    "content_range": "bytes 1000-4999/5000",
    "content_length": "4000",
}


def made(status: int, url: str, headers: dict[str, Header]) -> ResponseHead:
    rows = []
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values or []:
            rows.append((name.replace("_", "-"), value))
    return ResponseHead(status=status, headers=tuple(rows), url=url)


def answer(status: int, *, url: str = URL, **headers: Header) -> ResponseHead:
    return made(status, url, headers)


def first(status: int = 200, **changes: Header) -> ResponseHead:
    """The answer whose first STORED bytes of 5,000 are in the part."""
    return made(status, URL, WHOLE | changes)


def rest(*, url: str = URL, **changes: Header) -> ResponseHead:
    """A 206 that brings the rest, but for the changes."""
    return made(206, url, REST | changes)


def after(start: ResponseHead, head: ResponseHead, *, restarts: int = 0) -> Verdict:
    """Judge an answer to a Range request that resumes ``start``."""
    return judge(
        head,
        stored=STORED,
        sent=validators_of(start),
        range_sent=True,
        method="GET",
        restarts=restarts,
    )


def at_first(head: ResponseHead, method: str = "GET") -> Verdict:
    return judge(head, stored=0, sent=None, range_sent=False, method=method)


def restarts_because_of(row: str, verdict: Verdict) -> bool:
    return isinstance(verdict, Restart) and verdict.reason.startswith(row)


def fails_because_of(row: str, verdict: Verdict) -> bool:
    return isinstance(verdict, Fail) and verdict.reason.startswith(row)


# The rows


def test_bf_range_01_a_206_to_a_request_without_range_must_begin_at_zero() -> None:
    whole = answer(206, content_range="bytes 0-99/100")
    later = answer(206, content_range="bytes 10-99/100")

    assert at_first(whole) == Store(0)
    assert at_first(whole, "POST") == Store(0)
    assert fails_because_of("BF-RANGE-05", at_first(later))
    assert fails_because_of("BF-RANGE-02", at_first(answer(206)))


UNREADABLE = [
    "",
    "bytes 0-",
    "bytes */100",
    "items 0-1/2",
    "bytes 0-1",
    "bytes 0-1/2, bytes 3-4/5",
    "bytes 0-0,2-2/3",
    "bytes 1-0/5",
    "bytes 0-5/5",
    "bytes  0-1/2",
    "bytes 0-1/2 ",
    "bytes 0-1/2\n",
    "bytes 0-1/**",
]


@pytest.mark.parametrize("value", UNREADABLE)
def test_bf_range_02_an_unreadable_content_range_is_refused(value: str) -> None:
    assert parse_content_range([value]) is None
    assert fails_because_of("BF-RANGE-02", at_first(answer(206, content_range=value)))
    assert restarts_because_of("BF-RANGE-02", after(first(), rest(content_range=value)))


def test_bf_range_02_several_ranges_in_one_body_are_refused() -> None:
    kind = "Multipart/ByteRanges; boundary=x"

    assert restarts_because_of("BF-RANGE-02", after(first(), rest(content_type=kind)))


def test_bf_range_03_the_unit_is_followed_by_a_space() -> None:
    assert parse_content_range(["bytes 5-9/10"]) == ContentRange(5, 9, 10)
    assert parse_content_range(["bytes=5-9/10"]) is None


@pytest.mark.parametrize("second", ["bytes 1000-4999/5000", "bytes 0-4999/5000"])
def test_bf_range_04_two_content_ranges_are_refused(second: str) -> None:
    head = rest(content_range=["bytes 1000-4999/5000", second])

    assert restarts_because_of("BF-RANGE-02", after(first(), head))


@pytest.mark.parametrize("start", [999, 1001, 0])
def test_bf_range_05_a_206_that_begins_elsewhere_is_refused(start: int) -> None:
    head = rest(content_range=f"bytes {start}-4999/5000", content_length=None)

    assert restarts_because_of("BF-RANGE-05", after(first(), head))


@pytest.mark.parametrize("length", ["3999", "4001", "0"])
def test_bf_range_06_a_length_other_than_the_ranges_is_refused(length: str) -> None:
    head = rest(content_length=length)

    assert restarts_because_of("BF-RANGE-06", after(first(), head))


@pytest.mark.parametrize("etag", ['"v2"', None, 'W/"v1"', '"V1"', ['"v1"', '"v1"']])
def test_bf_range_07_another_or_no_etag_is_refused(etag: str | None) -> None:
    assert restarts_because_of("BF-RANGE-07", after(first(), rest(etag=etag)))


def test_bf_range_07_a_weak_etag_must_be_repeated_though_it_proves_nothing() -> None:
    start = first(etag='W/"v1"')

    assert after(start, rest(etag='W/"v1"')) == Store(STORED)
    assert restarts_because_of("BF-RANGE-07", after(start, rest(etag='W/"v2"')))


def test_bf_range_08_another_last_modified_is_refused_though_the_etag_is_equal() -> (
    None
):
    head = rest(last_modified=MINUTE_BEFORE)

    assert restarts_because_of("BF-RANGE-08", after(first(), head))


def test_bf_range_08_a_last_modified_that_was_the_proof_must_be_repeated() -> None:
    start = first(etag=None)

    assert after(start, rest(etag=None)) == Store(STORED)
    head = rest(etag=None, last_modified=None)
    assert restarts_because_of("BF-RANGE-08", after(start, head))


def test_bf_range_09_an_etag_that_is_new_is_not_compared() -> None:
    assert after(first(etag=None), rest()) == Store(STORED)


def test_bf_range_10_without_a_validator_nothing_is_resumed() -> None:
    start = first(etag=None, last_modified=None)

    assert not resumable("GET", validators_of(start), [])
    assert restarts_because_of("BF-RANGE-10", after(start, rest()))


@pytest.mark.parametrize("complete", ["5001", "*"])
def test_bf_range_11_another_complete_length_is_refused(complete: str) -> None:
    start = first(206, content_range="bytes 0-999/5000", content_length="1000")
    head = rest(content_range=f"bytes 1000-4999/{complete}")

    assert restarts_because_of("BF-RANGE-11", after(start, head))


def test_bf_range_11_a_length_unknown_at_first_may_become_known() -> None:
    start = first(206, content_range="bytes 0-999/*", content_length="1000")

    assert after(start, rest()) == Store(STORED)


def test_bf_range_12_the_length_of_a_200_counts_as_well() -> None:
    head = rest(content_range="bytes 1000-5000/5001", content_length="4001")

    assert restarts_because_of("BF-RANGE-11", after(first(), head))
    assert after(first(content_length=None), head) == Store(STORED)


def test_bf_range_13_another_coding_is_refused() -> None:
    coded = first(content_encoding="gzip")

    assert restarts_because_of("BF-RANGE-13", after(coded, rest()))
    assert after(coded, rest(content_encoding="GZIP")) == Store(STORED)
    assert after(first(content_encoding="identity"), rest()) == Store(STORED)


@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', None])
def test_bf_range_13_a_coded_answer_is_resumed_by_a_strong_etag_only(
    etag: str | None,
) -> None:
    coded = validators_of(first(content_encoding="gzip", etag=etag))

    assert resumable("GET", coded, []) is (etag == '"v1"')


def test_bf_range_14_pieces_of_unknown_length_end_with_a_416() -> None:
    start = first(206, content_range="bytes 0-999/*", content_length="1000")

    assert finished(start, STORED) is Ending.MORE
    assert after(start, answer(416, content_range="bytes */1000", etag='"v1"')) == (
        Complete()
    )


def test_bf_range_15_a_416_restarts_and_then_is_the_result() -> None:
    shrunk = answer(416, content_range="bytes */900")

    assert restarts_because_of("BF-RANGE-15", after(first(), shrunk))
    assert after(first(), shrunk, restarts=MAX_RESTARTS) == Store(0, new_part=True)
    assert at_first(shrunk) == Store(0)


def test_bf_range_16_a_200_to_a_range_request_is_a_new_beginning() -> None:
    assert after(first(), first(etag='"v2"')) == Store(0, new_part=True)
    assert after(first(), first(), restarts=MAX_RESTARTS) == Store(0, new_part=True)


@pytest.mark.parametrize("status", [404, 410, 500, 503, 304])
def test_bf_range_17_an_error_to_a_range_request_replaces_what_is_stored(
    status: int,
) -> None:
    assert after(first(), answer(status)) == Store(0, new_part=True)


def test_bf_range_18_the_slice_a_caller_asked_for_is_the_resource() -> None:
    head = answer(206, content_range="bytes 100-199/1000", etag='"v1"')
    headers = [("range", "bytes=100-199")]

    verdict = judge(
        head, stored=0, sent=None, range_sent=False, method="GET", user_range=True
    )

    assert verdict == Store(0)
    assert finished(head, 100, user_range=True) is Ending.FINISHED
    assert finished(head, 99, user_range=True) is Ending.TRUNCATED
    assert not resumable("GET", validators_of(head), headers)


def test_bf_range_19_an_equal_strong_etag_excuses_a_missing_last_modified() -> None:
    assert after(first(), rest(last_modified=None)) == Store(STORED)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"bytes 0-{2**64}/{2**70}", ContentRange(0, 2**64, 2**70)),
        ("bytes 007-0008/010", ContentRange(7, 8, 10)),
        ("BYTES 0-1/*", ContentRange(0, 1, None)),
        ("bytes +1-2/3", None),
        ("bytes 1-2/ 3", None),
        ("bytes 1e3-2e3/3e3", None),
        ("bytes \u0661-\u0662/\u0663", None),
        ("bytes 0-1/" + "9" * 5000, None),
    ],
)
def test_bf_range_20_positions_are_plain_decimals_of_any_size(
    value: str, expected: ContentRange | None
) -> None:
    assert parse_content_range([value]) == expected


# What the rows share


def test_r7_bytes_from_another_origin_are_refused() -> None:
    """BF-SEC-15."""
    mirror = rest(url="https://mirror.example/file")

    assert restarts_because_of("R7", after(first(), mirror))


@pytest.mark.parametrize(
    ("modified", "date", "kept"),
    [
        (DAY_BEFORE, DATE, True),
        (MINUTE_BEFORE, DATE, True),
        (ALMOST, DATE, False),
        (DAY_BEFORE, None, False),
        (DATE, DAY_BEFORE, False),
        ("yesterday", DATE, False),
        (DAY_BEFORE, "today", False),
        ("Monday, 02-Jan-23 03:04:05 GMT", DATE, True),
        ("Mon Jan  2 03:04:05 2023", DATE, True),
        ([DAY_BEFORE, DAY_BEFORE], DATE, False),
    ],
)
def test_r7_a_last_modified_proves_a_version_when_a_minute_old(
    modified: str, date: str | None, kept: bool
) -> None:
    found = validators_of(first(etag=None, last_modified=modified, date=date))

    assert found.last_modified == (modified if kept else None)
    assert resumable("GET", found, []) is kept


@pytest.mark.parametrize("etag", ["v1", 'W/"v1"', '"v"1"', '"v1', ['"v1"', '"v2"']])
def test_r7_only_a_strong_etag_proves_a_version(etag: str) -> None:
    found = validators_of(first(etag=etag, last_modified=None))

    assert not resumable("GET", found, [])
    assert range_headers(STORED, found) == ()


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (first(), 5000),
        (first(content_length=["5000", "5000"]), 5000),
        (first(content_length=["5000", "5001"]), None),
        (first(content_length="-1"), None),
        (first(transfer_encoding="chunked"), None),
        (first(206, content_range="bytes 0-4999/6000"), 6000),
        (first(206, content_range="bytes 0-4999/*"), None),
        (first(404), None),
    ],
)
def test_r7_the_length_is_that_of_the_whole_resource(
    head: ResponseHead, length: int | None
) -> None:
    assert validators_of(head).length == length


def test_r7_an_error_page_has_no_version_that_could_be_resumed() -> None:
    assert not resumable("GET", validators_of(first(404)), [])


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_bf_rec_11_only_get_is_resumed(method: str) -> None:
    assert not resumable(method, validators_of(first()), [])


def test_bf_rec_03_the_rest_is_asked_for_with_the_proof_of_its_version() -> None:
    """BF-REC-06, BF-IMPL-04."""
    found = validators_of(first())
    dated = replace(found, etag='W/"v1"')

    assert range_headers(1000, found) == (
        ("Range", "bytes=1000-"),
        ("If-Range", '"v1"'),
    )
    assert range_headers(1000, dated)[1] == ("If-Range", DAY_BEFORE)
    assert range_headers(1000, Validators()) == ()


def test_bf_rec_04_all_of_it_is_asked_for_without_range() -> None:
    assert range_headers(0, validators_of(first())) == ()


def test_bf_rec_28_a_piece_is_no_answer_to_a_method_that_is_sent_once() -> None:
    piece = answer(206, content_range="bytes 0-99/1000")

    assert at_first(piece) == Store(0)
    assert fails_because_of("BF-REC-28", at_first(piece, "POST"))


def test_a_record_restarts_three_times_then_the_row_has_its_result() -> None:
    """BF-REC-12 by the ruling on resume: bounded restarts, then fetch-error."""
    for restarts in range(MAX_RESTARTS):
        assert isinstance(after(first(), rest(etag=None), restarts=restarts), Restart)

    verdict = after(first(), rest(etag=None), restarts=MAX_RESTARTS)

    assert fails_because_of("BF-RANGE-07", verdict)


def test_without_a_range_request_stored_bytes_are_replaced_not_continued() -> None:
    """R3: bytes of an answer that cannot be resumed stay apart from the next one's."""

    def judged(head: ResponseHead, stored: int) -> Verdict:
        sent = validators_of(first())
        return judge(head, stored=stored, sent=sent, range_sent=False, method="GET")

    whole = answer(206, content_range="bytes 0-4999/5000")
    assert judged(whole, STORED) == Store(0, new_part=True)
    assert judged(first(), STORED) == Store(0, new_part=True)
    assert judged(first(), 0) == Store(0, new_part=True)
    assert restarts_because_of("BF-RANGE-05", judged(rest(), STORED))


@pytest.mark.parametrize(
    ("start", "head", "complete"),
    [
        (first(content_length="1000"), answer(416), False),
        (first(content_length="1000"), answer(416, content_range="*/1000"), False),
        (
            first(content_length="1000"),
            answer(416, content_range="bytes */1000"),
            True,
        ),
        (
            first(content_length="1000"),
            answer(416, content_range="bytes */1000", etag='"v2"'),
            False,
        ),
        (
            first(content_length="1000"),
            answer(416, url="https://b.example/", content_range="bytes */1000"),
            False,
        ),
        (first(), answer(416, content_range="bytes */1000", etag='"v1"'), False),
        (
            first(content_length=None),
            answer(416, content_range="bytes */1000"),
            False,
        ),
        (
            first(content_length=None, etag=None),
            answer(416, content_range="bytes */1000", last_modified=DAY_BEFORE),
            True,
        ),
    ],
)
def test_a_416_completes_only_what_is_proved_whole(
    start: ResponseHead, head: ResponseHead, complete: bool
) -> None:
    """The ruling on 416 (fault 54): the same size under the same validator."""
    verdict = after(start, head)

    assert isinstance(verdict, Complete if complete else Restart)


@pytest.mark.parametrize(
    ("head", "stored", "ending"),
    [
        (first(), 5000, Ending.FINISHED),
        (first(), 4999, Ending.TRUNCATED),
        (first(), 5001, Ending.OVERLONG),
        (first(content_length=None), 17, Ending.FINISHED),
        (first(404), 5000, Ending.FINISHED),
        (first(404), 17, Ending.TRUNCATED),
        (answer(200), 0, Ending.FINISHED),
        (answer(304, content_length="5000"), 0, Ending.FINISHED),
        (answer(204), 0, Ending.FINISHED),
    ],
)
def test_bf_rec_19_a_body_that_is_all_there_ends_the_record(
    head: ResponseHead, stored: int, ending: Ending
) -> None:
    assert finished(head, stored) is ending


def test_bf_rec_26_a_head_has_no_body_whatever_it_announces() -> None:
    assert finished(first(), 0, method="HEAD") is Ending.FINISHED


@pytest.mark.parametrize(
    ("value", "stored", "ending"),
    [
        ("bytes 1000-4999/5000", 5000, Ending.FINISHED),
        ("bytes 1000-1999/5000", 2000, Ending.MORE),
        ("bytes 1000-4999/*", 5000, Ending.MORE),
        ("bytes 1000-1999/5000", 1999, Ending.TRUNCATED),
        ("bytes 1000-1999/5000", 2001, Ending.OVERLONG),
        ("bytes 1000-1999/2000", 1000, Ending.TRUNCATED),
    ],
)
def test_bf_rec_20_pieces_are_asked_for_until_the_length_is_reached(
    value: str, stored: int, ending: Ending
) -> None:
    head = rest(content_range=value, content_length=None)

    assert finished(head, stored) is ending


# Properties

numbers = st.integers(0, 3000) | st.integers(0, 2**80)
content_ranges = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"(bytes|items)[ =][0-9]{0,4}-[0-9]{0,4}/([0-9]{0,4}|\*)"),
    st.builds("bytes {}-{}/{}".format, numbers, numbers, numbers | st.just("*")),
)


@given(st.lists(content_ranges, max_size=2))
def test_what_is_read_from_a_content_range_is_what_it_says(values: list[str]) -> None:
    found = parse_content_range(values)

    if found is not None:
        [value] = values
        unit, numbers_said = value.split(" ")
        span, complete = numbers_said.split("/")
        assert unit.lower() == "bytes"
        assert [int(n) for n in span.split("-")] == [found.first, found.last]
        assert complete == "*" if found.complete is None else int(complete) > found.last
        assert found.size > 0


@given(
    value=content_ranges,
    status=st.sampled_from([200, 206, 206, 206, 416]),
    stored=st.integers(0, 3000),
    range_sent=st.booleans(),
)
@example(value="bytes 7-9/10", status=206, stored=7, range_sent=True)
def test_bytes_are_stored_only_where_the_answer_says_they_belong(
    value: str, status: int, stored: int, range_sent: bool
) -> None:
    start = first(content_length=None)
    head = answer(status, content_range=value, etag='"v1"')

    verdict = judge(
        head,
        stored=stored,
        sent=validators_of(start),
        range_sent=range_sent,
        method="GET",
    )

    if isinstance(verdict, Store):
        assert verdict.offset == stored or verdict == Store(0, new_part=True)
        if status == 206:
            found = parse_content_range([value])
            assert found is not None
            assert found.first == verdict.offset


names = st.sampled_from(
    [
        *("ETag", "Last-Modified", "Date", "Content-Length", "Content-Range"),
        *("Content-Encoding", "Content-Type", "Transfer-Encoding"),
    ]
)
texts = st.text(max_size=40) | content_ranges | st.sampled_from([DATE, '"v1"', "5"])
heads = st.builds(
    ResponseHead,
    status=st.integers(200, 599) | st.sampled_from([200, 206, 416]),
    headers=st.lists(st.tuples(names, texts), max_size=6).map(tuple),
    url=st.sampled_from([URL, "", "nonsense"]),
)


@given(start=heads, head=heads, stored=st.integers(0, 10), method=st.text(max_size=4))
def test_no_answer_is_too_strange_to_be_judged(
    start: ResponseHead, head: ResponseHead, stored: int, method: str
) -> None:
    sent = validators_of(start)

    judge(head, stored=stored, sent=sent, range_sent=stored > 0, method=method)
    resumable(method, sent, head.headers)
    range_headers(stored, sent)
    finished(head, stored, method=method)
