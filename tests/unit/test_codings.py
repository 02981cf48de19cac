"""Content codings: what is undone, what is refused, and how much it may become."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.codings import BLOCK, FREE, Decoder, DecodingLimits, decoder_of
from schemas.errors import UndecodableBody
from schemas.records import ResponseHead

LIMITS = DecodingLimits(size=64 * BLOCK, ratio=200)
ZEROS = bytes(50 * 1024 * 1024)


def raw_deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(body) + coder.flush()


def head(*codings: str) -> ResponseHead:
    headers = tuple(("Content-Encoding", coding) for coding in codings)
    return ResponseHead(status=200, headers=headers, url="http://a.example/x")


def decoder(coding: str, limits: DecodingLimits = LIMITS) -> Decoder:
    made = decoder_of(head(coding), limits)
    assert made is not None
    return made


def whole(made: Decoder, coded: bytes, size: int = BLOCK) -> bytes:
    pieces: list[bytes] = []
    for at in range(0, len(coded), size):
        pieces += made.decode(coded[at : at + size])
    made.finish()
    return b"".join(pieces)


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "an old name": ("X-GZIP", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": (" Deflate", raw_deflate),
}


@pytest.mark.parametrize("name", CODERS)
@given(body=st.binary(max_size=3000), size=st.integers(1, 100))
def test_a_body_comes_out_as_it_went_in_however_it_is_cut(
    name: str, body: bytes, size: int
) -> None:
    """Faults row 46; RFC 9110 § 8.4.1."""
    coding, encode = CODERS[name]

    assert whole(decoder(coding), encode(body), size) == body


@pytest.mark.parametrize("name", CODERS)
@given(st.data())
def test_a_body_cut_anywhere_is_never_taken_for_a_whole_one(
    name: str, data: st.DataObject
) -> None:
    """Faults § 3: every Python client takes a truncated gzip for a success."""
    coding, encode = CODERS[name]
    coded = encode(data.draw(st.binary(max_size=300)))
    cut = coded[: data.draw(st.integers(1, len(coded) - 1))]

    with pytest.raises(UndecodableBody, match="ends before its"):
        whole(decoder(coding), cut)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 50))
def test_every_member_of_a_gzip_is_read_and_zeros_after_the_last_are_padding(
    bodies: list[bytes], size: int
) -> None:
    """RFC 1952 § 2.2."""
    coded = b"".join(map(gzip.compress, bodies)) + bytes(7)

    assert whole(decoder("gzip"), coded, size) == b"".join(bodies)


def test_a_member_that_is_cut_short_spoils_those_before_it() -> None:
    coded = gzip.compress(b"one") + gzip.compress(b"two")[:-1]

    with pytest.raises(UndecodableBody, match="ends before its gzip does"):
        whole(decoder("gzip"), coded)


@pytest.mark.parametrize(
    ("coding", "coded", "message"),
    [
        ("gzip", b"not gzip at all", "is not gzip"),
        ("gzip", gzip.compress(b"a") + b"rubbish", "is not gzip"),
        ("gzip", gzip.compress(b"a")[:-8] + bytes(8), "is not gzip"),
        ("deflate", zlib.compress(b"a") + b"x", "goes on after the end"),
        ("deflate", b"\xff\xff\xff", "is not deflate"),
    ],
    ids=["text", "rubbish after it", "checksum", "bytes after it", "no deflate"],
)
def test_bytes_of_another_form_are_refused(
    coding: str, coded: bytes, message: str
) -> None:
    """A wrong checksum and what follows the end included."""
    with pytest.raises(UndecodableBody, match=message):
        whole(decoder(coding), coded)


@pytest.mark.parametrize("codings", [(), ("",), ("identity",), ("Identity, ",)])
def test_a_body_without_a_coding_needs_no_decoder(codings: tuple[str, ...]) -> None:
    assert decoder_of(head(*codings), LIMITS) is None


@pytest.mark.parametrize(
    ("codings", "message"),
    [
        (("br",), "unknown content coding 'br'"),
        (("zstd",), "unknown content coding 'zstd'"),
        (("evil\udcff",), "unknown content coding"),
        (("gzip, gzip",), "has 2 content codings, not one"),
        (("gzip",) * 20, "has 20 content codings, not one"),
        (("gzip, identity, br",), "has 2 content codings, not one"),
    ],
)
def test_a_coding_that_is_unknown_or_one_of_several_is_refused_by_name(
    codings: tuple[str, ...], message: str
) -> None:
    """Faults row 46: nested 20, unknown, br and zstd without a decoder."""
    with pytest.raises(UndecodableBody, match=message):
        decoder_of(head(*codings), LIMITS)


def test_an_empty_body_is_empty_under_any_coding() -> None:
    """As that of an answer to HEAD."""
    assert whole(decoder("gzip"), b"") == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_stops_at_the_ratio_within_bounded_memory(coding: str) -> None:
    """Faults row 46: 1:1000."""
    coded = CODERS["gzip" if coding == "gzip" else "zlib"][1](ZEROS)
    handed: list[int] = []
    sizes = map(len, decoder(coding).decode(coded))
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableBody, match="BGFETCH_MAX_DECODED_RATIO=200"):
            handed.extend(sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert sum(handed) <= 200 * len(coded) + FREE
    assert peak < 4 * BLOCK


def test_a_body_stops_at_the_absolute_limit() -> None:
    limits = DecodingLimits(size=3 * BLOCK, ratio=10_000)
    made = decoder("gzip", limits)
    exact = whole(decoder("gzip", limits), gzip.compress(bytes(3 * BLOCK)))

    assert len(exact) == 3 * BLOCK
    with pytest.raises(UndecodableBody, match=f"BGFETCH_MAX_DECODED={3 * BLOCK}"):
        whole(made, gzip.compress(bytes(3 * BLOCK + 1)))


def test_a_small_body_of_zeros_is_no_bomb() -> None:
    body = bytes(FREE)

    assert whole(decoder("gzip"), gzip.compress(body)) == body
