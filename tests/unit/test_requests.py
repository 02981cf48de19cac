"""``Request`` and the other arguments of ``fetch()``: what is refused, and how."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import keys
from schemas import codec
from schemas.bodies import BodyStream, StoredBody
from schemas.errors import (
    InvalidMessage,
    InvalidName,
    InvalidOptions,
    InvalidRequest,
    InvalidURL,
)
from schemas.names import RESERVED, check_id, check_scope
from schemas.options import FetchOptions
from schemas.requests import Request

BASE = "https://podcasts.example/feed/"


def test_a_request_has_the_defaults_of_the_specification() -> None:
    """BF-SEC-01."""
    request = Request("/a")

    assert (request.method, request.mode, request.credentials, request.redirect) == (
        "GET",
        "cors",
        "same-origin",
        "follow",
    )
    assert (request.referrer, request.integrity, request.body) == (
        "about:client",
        "",
        None,
    )


@pytest.mark.parametrize("method", ["CONNECT", "trace", "TRACK", "", "G ET", "GÉT"])
def test_a_forbidden_or_malformed_method_is_refused(method: str) -> None:
    """BF-FETCH-02, BF-SEC-13."""
    with pytest.raises(InvalidRequest, match="method"):
        Request("/a", method=method)


def test_the_six_standard_methods_are_normalised_and_no_others() -> None:
    """BF-SEC-13."""
    assert Request("/a", method="post").method == "POST"
    assert Request("/a", method="patch").method == "patch"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_that_has_no_body_by_its_method_is_refused_with_one(
    method: str,
) -> None:
    """BF-FETCH-02."""
    with pytest.raises(InvalidRequest, match="no body"):
        Request("/a", method=method, body=b"x")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"a b": "x"},
        {"a:": "x"},
        {"x": "a\r\nb: c"},
        {"x": "a\0"},
        {"x": "☃"},
        {f"x-{n}": "y" for n in range(1000)},
        ["x"],
    ],
)
def test_headers_that_could_desynchronise_a_connection_are_refused(
    headers: dict[str, str],
) -> None:
    """Faults 11."""
    with pytest.raises(InvalidRequest):
        Request("/a", headers=headers)


def test_the_length_of_a_body_is_counted_in_bytes_of_utf8() -> None:
    """BF-FETCH-18."""
    request = Request("/a", method="POST", body="é")

    assert request.content == "é".encode()
    assert ("Content-Type", "text/plain;charset=UTF-8") in request.header_list


@pytest.mark.parametrize("body", [{"a": "b"}, 3, object(), True])
def test_what_cannot_be_read_as_a_body_is_refused(body: object) -> None:
    """BF-FETCH-02."""
    with pytest.raises(InvalidRequest, match=f"got {type(body).__name__}"):
        Request("/a", method="POST", body=body)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [bytearray(b"ab"), memoryview(b"ab"), "ab", b"ab"])
def test_a_body_of_bytes_or_text_is_kept_as_bytes(
    body: bytes | bytearray | memoryview | str,
) -> None:
    """BF-OBJ-01."""
    request = Request("/a", method="POST", body=body).resolve(BASE)

    assert request.body == b"ab"
    assert Request.decode(request.encode()) == request


def test_a_stream_that_was_read_makes_no_second_request() -> None:
    """BF-FETCH-02: an already used body."""
    request = Request("/a", method="POST", body=iter([b"x"]))
    assert isinstance(request.body, BodyStream)
    request.body.take()

    with pytest.raises(InvalidRequest, match="read before"):
        Request("/a", method="POST", body=request.body)
    with pytest.raises(InvalidRequest, match="read before"):
        request.resolve(BASE)


def test_a_path_may_be_read_as_often_as_it_is_asked_for() -> None:
    stream = BodyStream(Path("x"))

    assert [stream.take(), stream.take()] == [Path("x"), Path("x")]


def test_a_body_that_is_not_stored_yet_cannot_be_written_down() -> None:
    with pytest.raises(InvalidRequest, match="not stored"):
        Request("/a", method="POST", body=[b"x"]).encode()


def test_a_stored_body_is_named_in_the_message() -> None:
    stored = StoredBody(store="a" * 32, name="b" * 32, length=2**40, sha256="c" * 64)
    request = Request("/a", method="PUT", body=stored)

    assert Request.decode(request.encode()) == request
    assert request.upload_total == 2**40
    broken = codec.encode({"url": "/a", "method": "PUT", "body": {"store": "a"}})
    with pytest.raises(InvalidMessage, match="name"):
        Request.decode(broken)


@pytest.mark.parametrize("value", [None, 3, b"https://e.example/"])
def test_a_url_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="URL"):
        Request(value)  # type: ignore[arg-type]


def test_an_empty_or_relative_url_is_resolved_against_the_base() -> None:
    """BF-FETCH-08."""
    assert Request("").resolve(BASE).url == BASE
    assert Request("../x/y").resolve(BASE).url == "https://podcasts.example/x/y"
    with pytest.raises(InvalidURL):
        Request("x").resolve(None)


def test_no_cors_is_refused_when_the_request_is_fetched() -> None:
    """BF-FETCH-04: the constructor allows it, fetch() does not."""
    with pytest.raises(InvalidRequest, match="no-cors"):
        Request("/a", mode="no-cors").resolve(BASE)


@given(
    url=st.text(max_size=50),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
    headers=st.dictionaries(
        st.from_regex(r"\Ax-[a-z]{1,8}\Z"), st.text("abc é", max_size=9), max_size=4
    ),
    body=st.none() | st.binary(max_size=100),
    integrity=st.text(max_size=20),
)
def test_a_request_survives_its_journey_through_redis(
    url: str, method: str, headers: dict[str, str], body: bytes | None, integrity: str
) -> None:
    """BF-STATE-04, BF-OBJ-01."""
    request = Request(
        url,
        method=method,
        headers=headers,
        body=None if method == "GET" else body,
        integrity=integrity,
    )

    assert Request.decode(request.encode()) == request


@pytest.mark.parametrize("scope", ["", "-a", "a b", "a/b", "a:b", "é", "x" * 65, None])
def test_a_scope_that_is_no_name_is_refused(scope: str) -> None:
    with pytest.raises(InvalidName, match="scope"):
        check_scope(scope)


def test_no_scope_has_the_name_of_a_key_that_is_everybodys() -> None:
    texts = [value for value in vars(keys).values() if isinstance(value, str)]
    own = {t.removeprefix(keys.PREFIX) for t in texts if t.startswith(keys.PREFIX)}

    assert own - {""} == RESERVED, "schemas.names.RESERVED lacks a key of broker.keys"
    for name in RESERVED:
        with pytest.raises(InvalidName, match="reserved"):
            check_scope(name)


@pytest.mark.parametrize("id", ["", None, 3, "x" * 1025, "é" * 513, "\ud800"])
def test_an_id_that_is_empty_too_long_or_no_text_is_refused(id: str) -> None:
    """BF-GET-05, BF-FETCH-25."""
    with pytest.raises(InvalidName, match="fetch id"):
        check_id(id)


@pytest.mark.parametrize("id", ["a", "A", " a", "\0", "\U0001f399", "a/b", "x" * 1024])
def test_every_other_string_is_an_id_as_it_is(id: str) -> None:
    """BF-STATE-07."""
    assert check_id(id) == id


@pytest.mark.parametrize("total", [-1, 2**64, 1.0, True, float("nan"), "1", None])
def test_a_download_total_that_is_no_unsigned_64_bit_number_is_refused(
    total: int,
) -> None:
    """BF-IDL-05: WebIDL would wrap it."""
    with pytest.raises(InvalidOptions, match="download_total"):
        FetchOptions.checked("", (), total, timedelta(0))


def test_options_are_copied_and_icons_need_a_source() -> None:
    """BF-FETCH-19, BF-IDL-06."""
    icons = [{"src": "/a.png", "sizes": "48x48"}]

    options = FetchOptions.checked("t", icons, 2**64 - 1, timedelta(1))
    icons[0]["src"] = "/changed.png"

    assert options.icons[0].src == "/a.png"
    assert options.download_total == 2**64 - 1
    with pytest.raises(InvalidOptions, match="src"):
        FetchOptions.checked("", [{"label": "x"}], 0, timedelta(0))
    with pytest.raises(InvalidOptions, match="title"):
        FetchOptions.checked(3, (), 0, timedelta(0))  # type: ignore[arg-type]
    with pytest.raises(InvalidOptions, match="hold"):
        FetchOptions.checked("", (), 0, timedelta(-1))
    with pytest.raises(InvalidOptions, match="icons"):
        FetchOptions.checked("", "x", 0, timedelta(0))  # type: ignore[arg-type]
