"""Secrets by reference: how they are named in header values, and what is masked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidRequest
from schemas.requests import Request
from schemas.secrets import (
    filled,
    is_secret_header,
    referring,
    shown_headers,
    shown_url,
)
from workers.exchange import Outgoing


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("secret:github", "<github>"),
        ("Bearer secret:github", "Bearer <github>"),
        ("secret:a  secret:b", "<a>  <b>"),
        ("x\tsecret:a", "x\t<a>"),
        ("secret::github", "secret:github"),
        ("Bearer secret::", "Bearer secret:"),
        ("sid=secret:github", "sid=secret:github"),
        ("Secret:github", "Secret:github"),
        ("the secret", "the secret"),
    ],
)
def test_a_reference_is_a_whole_word_and_two_colons_escape_it(
    value: str, sent: str
) -> None:
    Request("https://a.example/", headers={"X": value})

    assert filled(value, lambda name: f"<{name}>") == sent


@pytest.mark.parametrize(
    "word",
    ["secret:", "secret:../x", "secret:a.origins", "secret:-a", "secret:" + "a" * 65],
)
def test_a_reference_that_names_no_secret_is_refused_at_once(word: str) -> None:
    """No name leads out of the directory, or to a list of origins."""
    with pytest.raises(InvalidRequest, match="names no secret"):
        Request("https://a.example/", headers={"X": f"Bearer {word}"})


def test_a_secret_that_looks_like_a_reference_is_sent_as_it_is() -> None:
    assert filled("secret:a", lambda name: f"secret:{name}b") == "secret:ab"


@given(st.text(st.characters(blacklist_characters=" \t")))
def test_any_text_can_be_escaped(text: str) -> None:
    escaped = f"Bearer secret::{text}"

    assert not referring([("X", escaped)])
    assert filled(escaped, str.upper) == f"Bearer secret:{text}"


def test_the_headers_that_refer_to_a_secret_are_told() -> None:
    headers = [("X-A", "b secret:c"), ("X-B", "secret::c"), ("X-C", "d")]

    assert referring(headers) == {"X-A"}


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "cookie",
        "X-API-Key",
        "apikey",
        "Ocp-Apim-Subscription-Key",
        "X-Amz-Security-Token",
        "X-Goog-IAM-Authorization-Token",
        "Private-Token",
        "X-Client-Secret",
    ],
)
def test_headers_that_prove_who_one_is_are_known(name: str) -> None:
    assert is_secret_header(name)


@pytest.mark.parametrize("name", ["Accept", "Range", "Idempotency-Key", "Keyboard"])
def test_other_headers_are_shown(name: str) -> None:
    assert shown_headers([(name, "x")]) == ((name, "x"),)


def test_no_text_of_a_request_shows_a_secret() -> None:
    headers = (("Authorization", "Bearer hunter2"), ("Accept", "a/b"))
    request = Request("https://a.example/", headers=headers)

    assert "hunter2" not in repr(request)
    assert "('Authorization', '***'), ('Accept', 'a/b')" in repr(request)
    assert "hunter2" not in repr(Outgoing("GET", request.url, headers))
    for wrong in ({"Cookie": "hunter2\r\n x"}, [("Cookie", "hunter2", "x")]):
        with pytest.raises(InvalidRequest) as refused:
            Request("/a", headers=wrong)  # type: ignore[arg-type]
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/b?c=d#e", "https://a.example/b?c=d#e"),
        ("https://a.example/token=x", "https://a.example/token=x"),
        ("https://a.example/?sig=x", "https://a.example/?sig=***"),
        (
            "https://a.example/?X-Amz-Date=1&X-Amz-Signature=x&X-Amz-Credential=y#z",
            "https://a.example/?X-Amz-Date=1&X-Amz-Signature=***&X-Amz-Credential=***#z",
        ),
        (
            "https://a.example/?access%5Ftoken=x=y",
            "https://a.example/?access%5Ftoken=***",
        ),
        ("https://a.example/?ApiKey=x&&token", "https://a.example/?ApiKey=***&&token"),
    ],
)
def test_what_a_query_proves_is_masked_where_people_see_it(
    url: str, shown: str
) -> None:
    assert shown_url(url) == shown
