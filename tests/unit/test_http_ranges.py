"""Which bytes of a body a request asks for."""

from __future__ import annotations

import pytest

from broker.gateway.ranges import Span, is_known, span_of, still_holds
from broker.gateway.refusals import RangeNotSatisfiable


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=2-", Span(2, 10)),
        ("bytes=2-99", Span(2, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-30", Span(0, 10)),
        ("bytes=3-2", None),
        ("bytes=0-1,4-5", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=٣-", None),
    ],
)
def test_one_range_is_served_and_others_are_passed_over(
    header: str | None, span: Span | None
) -> None:
    """RFC 9110 § 14.2."""
    assert span_of(header, 10) == span


@pytest.mark.parametrize(
    ("header", "length"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_without_a_byte_cannot_be_served(header: str, length: int) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        span_of(header, length)

    assert caught.value.headers["Content-Range"] == f"bytes */{length}"


def test_a_body_is_known_by_any_of_its_tags() -> None:
    tags = ('"a"', '"b"')

    assert is_known('"x", W/"b"', tags)
    assert is_known("*", tags)
    assert not is_known('"x"', tags)
    assert not is_known("*", ())


def test_a_range_is_served_only_for_a_strong_tag_of_the_same_bytes() -> None:
    assert still_holds(None, ('"a"',))
    assert still_holds('"a"', ('"a"',))
    assert not still_holds('W/"a"', ('"a"',))
    assert not still_holds("Sun, 22 Nov 2026 18:00:00 GMT", ('"a"',))
