"""``Request`` and the other arguments of ``fetch()``: what is refused, and how."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import keys
from schemas.errors import InvalidName, InvalidOptions, InvalidRequest, InvalidURL
from schemas.names import RESERVED, check_id, check_scope
from schemas.options import FetchOptions
from schemas.requests import MAX_BODY_BYTES, Request

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


def test_a_body_that_is_too_large_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidRequest, match=f"{MAX_BODY_BYTES} bytes, got"):
        Request("/a", method="POST", body=b"x" * (MAX_BODY_BYTES + 1))


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
