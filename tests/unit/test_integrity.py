"""Digests that bytes must have: notations, and which of them hold for a body."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.integrity import parse_digest_field, parse_integrity
from schemas.records import ResponseHead
from schemas.requests import Request
from workers.verification import demands

# Its sha256 and sha512 have characters in which the two kinds of base64 differ.
BODY = b"body 1"
OTHER = b"other"
ALGORITHMS = ("sha256", "sha384", "sha512")
URL = "https://cdn.example/a"


def digest(algorithm: str, body: bytes = BODY) -> bytes:
    return hashlib.new(algorithm, body).digest()


def sri(algorithm: str, body: bytes = BODY) -> str:
    return f"{algorithm}-{b64encode(digest(algorithm, body)).decode()}"


def field(algorithm: str, body: bytes = BODY) -> str:
    name = algorithm.replace("sha", "sha-")
    return f"{name}=:{b64encode(digest(algorithm, body)).decode()}:"


def accepts(metadata: str, body: bytes = BODY) -> bool:
    demand = parse_integrity(metadata)
    assert demand is not None
    return demand.met_by(digest(demand.algorithm, body))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_integrity_tells_its_bytes_from_others(algorithm: str) -> None:
    """Faults 57: SRI right and wrong, under each algorithm."""
    assert accepts(sri(algorithm))
    assert not accepts(sri(algorithm), OTHER)


def test_any_digest_of_the_strongest_algorithm_will_do() -> None:
    """SRI § get-the-strongest-metadata."""
    several = f"{sri('sha384', OTHER)} {sri('sha384')}"

    assert accepts(several)
    assert accepts(f"{sri('sha256', OTHER)}\n\t{sri('sha384')}")
    assert not accepts(f"{sri('sha256')} {sri('sha512', OTHER)}")
    assert not accepts(f"{sri('sha512', OTHER)} {sri('sha256')}")


def test_options_and_the_notation_of_base64_do_not_matter() -> None:
    """Faults 57: algorithm in upper case, URL-safe base64, no padding."""
    raw = digest("sha256")
    url_safe = urlsafe_b64encode(raw).decode()
    assert url_safe != b64encode(raw).decode()

    assert accepts(f"{sri('sha256')}?ct=audio/mpeg?x")
    assert accepts(f"sha256-{url_safe}")
    assert accepts(f"sha256-{url_safe.rstrip('=')}")
    assert accepts(sri("sha256").replace("sha256", "SHA256"))


@pytest.mark.parametrize(
    "metadata", ["", " ", "md5-abc", "sha1-abc sha3-256-abc", "nonsense", "-", "?", "é"]
)
def test_without_a_known_algorithm_there_is_nothing_to_check(metadata: str) -> None:
    """SRI § do-bytes-match: no metadata means no check; faults 57."""
    assert parse_integrity(metadata) is None


@pytest.mark.parametrize("metadata", ["sha256", "sha256-", "sha512-!!!", "sha384-AAAA"])
def test_a_malformed_digest_of_a_known_algorithm_is_met_by_nothing(
    metadata: str,
) -> None:
    """A slip of the pen must not pass for a proof."""
    assert not accepts(metadata)
    assert not accepts(metadata, b"")


def test_a_refusal_shows_both_digests_and_is_bounded() -> None:
    demand = parse_integrity(sri("sha256", OTHER))
    many = parse_integrity(" ".join(f"sha256-{n}{'x' * 500}" for n in range(50)))
    assert demand is not None
    assert many is not None

    assert demand.refusal(digest("sha256")) == (
        f"integrity: expected {sri('sha256', OTHER)}, found {sri('sha256')}"
    )
    assert "47 others" in many.refusal(digest("sha256"))
    assert len(many.refusal(digest("sha256"))) < 500


@pytest.mark.parametrize(
    ("value", "algorithm"),
    [
        (field("sha256"), "sha256"),
        (field("sha512"), "sha512"),
        (f"{field('sha512')}, {field('sha256')}", "sha256"),
        (f"md5=:AAAA:,\t{field('sha256')};p=1;q", "sha256"),
        (f'a=1, b;x=2, c="s", d=(1 2);y, e=@1, {field("sha512")}', "sha512"),
        (f"sha-256=:AAAA:, {field('sha256')}", "sha256"),
        (f"sha-256=1, {field('sha512')}", "sha512"),
    ],
)
def test_a_digest_field_is_a_dictionary_of_byte_sequences(
    value: str, algorithm: str
) -> None:
    """RFC 9530 § 2, RFC 9651 § 3.2: the last of equal keys counts."""
    demand = parse_digest_field("Repr-Digest", value)

    assert demand is not None
    assert demand.algorithm == algorithm
    assert demand.met_by(digest(algorithm))
    assert not demand.met_by(digest(algorithm, OTHER))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha-256",
        "sha-256=abc",
        "md5=:AAAA:",
        "unixsum=:AAAA:, sha=:AAAA:",
        field("sha256").upper(),
        field("sha256").replace(":", '"'),
        f"{field('sha256')},",
        f"{field('sha256')} x",
        f"sha-256=:{urlsafe_b64encode(digest('sha256')).decode()}:",
        "\N{SNOWMAN}",
    ],
)
def test_a_digest_field_that_is_malformed_or_unknown_demands_nothing(
    value: str,
) -> None:
    """Faults 57; RFC 9651 § 4.2: a field that does not parse is ignored."""
    assert parse_digest_field("Repr-Digest", value) is None


@given(st.text() | st.from_regex(r"(sha(256|384|512)[-?]?[\w+/=-]*\s?)*"))
def test_no_integrity_makes_parsing_raise(metadata: str) -> None:
    demand = parse_integrity(metadata)

    if demand is not None:
        assert demand.algorithm in ALGORITHMS
        assert demand.refusal(digest(demand.algorithm))


@given(st.text() | st.from_regex(r"sha-(256|512)=(:[\w+/=]*:|@?-?\d+|%\"[^\"]*\"?)"))
def test_no_digest_field_makes_parsing_raise(value: str) -> None:
    demand = parse_digest_field("Content-Digest", value)

    assert demand is None or demand.algorithm in ALGORITHMS


def head(
    status: int = 200, *, content: bool = False, repr: bool = False
) -> ResponseHead:
    headers = [("ETag", '"1"'), ("X-Powered", "by")]
    headers += [("content-digest", field("sha512"))] if content else []
    headers += [("REPR-DIGEST", field("sha256"))] if repr else []
    return ResponseHead(status=status, headers=tuple(headers), url=URL)


def sources(
    first: ResponseHead,
    latest: ResponseHead | None,
    request: Request | None = None,
    *,
    user_range: bool = False,
) -> list[str]:
    found = demands(request or Request(URL), first, latest, user_range=user_range)
    return [demand.source for demand in found]


def test_a_body_of_one_answer_is_held_to_every_digest_the_callers_last() -> None:
    whole = head(content=True, repr=True)
    request = Request(URL, integrity=sri("sha384"))

    assert sources(whole, whole, request) == [
        "Repr-Digest",
        "Content-Digest",
        "integrity",
    ]
    assert sources(head(), head()) == []


def test_a_content_digest_does_not_hold_for_a_body_of_several_answers() -> None:
    """RFC 9530 § 2 and 3: content is of one message, a representation is not."""
    first, last = head(content=True, repr=True), head(206, content=True, repr=True)

    assert sources(first, last) == ["Repr-Digest"]
    assert sources(first, None) == ["Repr-Digest"]
    assert sources(head(), last) == ["Repr-Digest"]


def test_a_repr_digest_does_not_hold_for_the_slice_that_a_caller_asked_for() -> None:
    """BF-RANGE-18: there the slice is the resource."""
    slice_, whole = head(206, content=True, repr=True), head(content=True, repr=True)

    assert sources(slice_, slice_, user_range=True) == ["Content-Digest"]
    assert sources(whole, whole, user_range=True) == ["Repr-Digest", "Content-Digest"]


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("HEAD", 200, []),
        ("POST", 200, ["Content-Digest"]),
        ("PUT", 204, []),
        ("GET", 404, []),
    ],
)
def test_an_origins_digest_is_left_where_it_may_be_of_something_else(
    method: str, status: int, expected: list[str]
) -> None:
    """RFC 9530 § 3.1."""
    answer = head(status, content=True, repr=True)

    assert sources(answer, answer, Request(URL, method=method)) == expected


def test_integrity_holds_whatever_the_status() -> None:
    """Fetch § main fetch: bytes that do not match are a network error."""
    missing = head(404)

    assert sources(missing, missing, Request(URL, integrity=sri("sha256"))) == [
        "integrity"
    ]
