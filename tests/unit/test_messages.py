"""Messages: decoding trusts nothing and has one error (faults 79)."""

from __future__ import annotations

import inspect

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, errors
from schemas.errors import BackgroundFetchError, InvalidMessage, NewerMessage
from schemas.events import EventMessage, EventType, completion_event
from schemas.fetches import FailureReason, FetchState, Result
from schemas.messages import VERSION
from schemas.records import Checkpoint, RecordResult, RecordState, ResponseHead

SPEC_NAMES = {
    "TypeError",
    "NotAllowedError",
    "QuotaExceededError",
    "InvalidStateError",
    "InvalidAccessError",
    "AbortError",
}


def nested(depth: int) -> bytes:
    return b"\x81\xa1a" * depth + b"\xc0"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x93\x01\x02\x03",
        b"\x81\xa1a\x01\x00",  # trailing bytes
        b"\x81\x01\x01",  # a key that is no string
        b"\xdd\xff\xff\xff\xff",  # an array of 4 G elements
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a\xd4\x05\x00",  # an extension type
        b"\x81\xa1a\xc7\x04\xff\x00\x00\x00\x00",  # a bad timestamp
        b"\x81\xa1a\xa1\xff",  # no UTF-8
        nested(17),
        nested(900),
        nested(1100),
        b"\x81\xa1a" + msgpack.packb(b"x" * codec.MAX_BYTES),
    ],
)
def test_bytes_that_are_no_message_raise_one_error(data: bytes) -> None:
    """Faults row 79."""
    with pytest.raises(InvalidMessage):
        codec.decode(data)


@given(st.binary(max_size=200))
def test_decoding_never_raises_anything_else(data: bytes) -> None:
    for read in (codec.decode, EventMessage.decode, RecordState.decode):
        try:
            read(data)
        except InvalidMessage:
            continue


def test_an_event_has_the_names_of_the_idl_on_the_wire() -> None:
    """Design §4: camel case; unknown fields are ignored; BF-IDL-16."""
    state = FetchState(uid="0" * 32, id="a", scope="s", download_total=2**64 - 1)
    message = EventMessage(
        type=EventType.CLICK,
        event="backgroundfetchclick.1",
        time_stamp=1,
        registration=state,
    )

    plain = codec.decode(message.encode())
    again = EventMessage.from_plain({**plain, "fromTheFuture": 1})

    assert plain["timeStamp"] == 1
    assert isinstance(plain["registration"], dict)
    assert plain["registration"]["downloadTotal"] == 2**64 - 1
    assert again == message


def test_a_reader_knows_its_version_and_the_one_before_and_tells_later_ones_apart() -> (
    None
):
    """Design §5: what is newer waits for a newer reader, what is too old does not."""
    click = EventType.CLICK
    state = FetchState(uid="0" * 32, id="a", scope="s")
    message = EventMessage(type=click, event=click, time_stamp=1, registration=state)
    plain = codec.decode(message.encode())

    for known in (VERSION, VERSION - 1):
        assert EventMessage.from_plain({**plain, "v": known}).event == click
    with pytest.raises(NewerMessage, match=f"version {VERSION + 1}"):
        EventMessage.from_plain({**plain, "v": VERSION + 1, "type": "from the future"})
    with pytest.raises(InvalidMessage, match=f"before {VERSION - 1}"):
        EventMessage.from_plain({**plain, "v": VERSION - 2})


def test_counters_above_2_53_may_be_decimal_text() -> None:
    """BF-IDL-07: Lua's numbers are not exact there."""
    plain = {"uid": "u", "id": "a", "scope": "s", "downloaded": str(2**63 + 1)}

    assert FetchState.from_plain(plain).downloaded == 2**63 + 1


def test_a_registration_hash_is_read_as_redis_keeps_it() -> None:
    fields = {
        b"uid": b"u",
        b"id": "é".encode(),
        b"scope": b"s",
        b"icons": b'[{"src": "/a.png"}]',
        b"recordsAvailable": b"0",
        b"result": b"failure",
        b"failureReason": b"bad-status",
        b"seq": b"7",
    }

    state = FetchState.from_hash(fields)

    assert (state.id, state.icons[0].src, state.records_available) == (
        "é",
        "/a.png",
        False,
    )
    assert (state.result, state.failure_reason) == ("failure", "bad-status")
    with pytest.raises(InvalidMessage):
        FetchState.from_hash({b"uid": b"\xff"})


def test_a_record_state_survives_its_journey() -> None:
    head = ResponseHead(status=200, headers=(("Set-Cookie", "a"), ("set-cookie", "b")))
    state = RecordState(
        head=head, checkpoint=Checkpoint(store="s", part="p", length=3), attempts=2
    )

    again = RecordState.decode(state.encode())

    assert again == state
    assert again.head is not None
    assert again.head.get("SET-COOKIE") == "a, b"


@pytest.mark.parametrize(
    ("result", "reason", "event"),
    [
        (Result.SUCCESS, FailureReason.NONE, EventType.SUCCESS),
        (Result.FAILURE, FailureReason.ABORTED, EventType.ABORT),
        (Result.FAILURE, FailureReason.BAD_STATUS, EventType.FAIL),
        (Result.FAILURE, FailureReason.DOWNLOAD_TOTAL_EXCEEDED, EventType.FAIL),
    ],
)
def test_each_outcome_has_one_completion_event(
    result: Result, reason: FailureReason, event: EventType
) -> None:
    """BF-PERF-07."""
    assert completion_event(result, reason) is event


def test_the_enumerations_are_spelled_as_in_the_specification() -> None:
    """BF-IDL-08, BF-IDL-09, BF-STATE-05, BF-STATE-06."""
    assert [*Result] == ["", "success", "failure"]
    assert {*FailureReason} == {
        "",
        "aborted",
        "bad-status",
        "fetch-error",
        "quota-exceeded",
        "download-total-exceeded",
    }
    shown = {result for result in RecordResult if result.exposed}
    assert shown == {"", "success", "bad-status"}


def test_every_error_has_a_name_of_the_specification_and_type_errors_are_pythons() -> (
    None
):
    """Design §4."""
    found = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BackgroundFetchError)
    ]

    assert len(found) > 15
    for error in found:
        assert error.spec_name in SPEC_NAMES
        assert issubclass(error, TypeError) == (error.spec_name == "TypeError")
        assert error.__doc__
        assert error.__name__ in (errors.__doc__ or "")
