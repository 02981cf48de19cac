"""Messages that are meant to do harm: they are refused, at a bounded price."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest

from schemas import codec
from schemas.errors import InvalidMessage, InvalidName
from schemas.events import DeadLetter, EventMessage
from schemas.fetches import FetchState
from schemas.messages import CompactMessage, Message
from schemas.names import check_id, check_scope, check_subscriber
from schemas.policies import ScopePolicy
from schemas.records import RecordState
from schemas.requests import Request

MANY = 1_000_000
FETCH: dict[str, object] = {"uid": "0" * 32, "id": "a", "scope": "s"}
LETTER: dict[str, object] = {
    "state": "failed",
    "subscriber": "s",
    "entry": "1",
    "at": 1,
}


def fetch(**fields: object) -> bytes:
    packed = msgpack.packb({**FETCH, **fields})
    assert isinstance(packed, bytes)
    return packed


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -(2**63), 2**64 - 0.5, "NaN", "0x10"]
)
def test_a_number_that_is_none_is_refused(number: object) -> None:
    """Faults row 79."""
    with pytest.raises(InvalidMessage, match="downloaded"):
        FetchState.decode(fetch(downloaded=number))


def test_the_largest_number_is_one() -> None:
    """Faults row 79, BF-IDL-07."""
    assert FetchState.decode(fetch(downloaded=2**64 - 1)).downloaded == 2**64 - 1


def test_of_two_values_for_a_key_the_last_counts() -> None:
    """Faults row 79: also of one that is refused when it is alone."""
    twice = b"\x82\xa1a\x01\xa1a\x02"

    assert codec.decode(twice) == {"a": 2}


def test_a_million_values_in_a_field_that_nobody_knows_are_nothing() -> None:
    """Faults row 79."""
    assert FetchState.decode(fetch(fromTheFuture=[None] * MANY)).id == "a"


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (FetchState, {**FETCH, "icons": [None] * MANY}),
        (FetchState, {**FETCH, "icons": [{}] * MANY}),
        (FetchState, {**FETCH, "icons": "[" + "{}," * 100_000 + "{}]"}),
        (RecordState, {"head": {"status": 200, "headers": [None] * MANY}}),
        (DeadLetter, {**LETTER, "attempts": [None] * MANY}),
        (ScopePolicy, {"allow": [None] * MANY}),
    ],
    ids=["icons", "empty icons", "icons as JSON", "headers", "attempts", "origins"],
)
def test_of_a_million_wrong_values_the_first_is_told(
    message: type[Message | CompactMessage], plain: dict[str, object]
) -> None:
    """Faults row 81: an error for each would take minutes, and a gigabyte."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidMessage, match=r"\.0") as caught:
            message.from_plain(plain)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(str(caught.value)) < 500
    assert peak < 10**8


@pytest.mark.parametrize(
    "hostile",
    [
        {"downloaded": "9" * 100_000},
        {"downloaded": "-" * 100_000},
        {"icons": "[" * 100_000},
        {"icons": '[{"src": ' * 1000},
        {"result": "success" * 10_000},
        {"recordsAvailable": "x" * 100_000},
        {"scope": {"a": {"b": 1}}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_wrong_at_length_is_told_in_short(hostile: dict[str, object]) -> None:
    """Faults row 81."""
    with pytest.raises(InvalidMessage) as caught:
        FetchState.decode(fetch(**hostile))

    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text", ["a" * 10**6 + "!", "/" * 10**6, "." * 10**6, "é" * 10**6]
)
def test_no_form_takes_longer_than_its_text(text: str) -> None:
    """Faults row 81: no pattern of ours goes back and forth in what it reads."""
    for check in (check_scope, check_subscriber, check_id):
        with pytest.raises(InvalidName) as caught:
            check(text)
        assert len(str(caught.value)) < 500
    assert Request(text).url == text
    with pytest.raises(InvalidMessage):
        EventMessage.decode(fetch(type=text))
