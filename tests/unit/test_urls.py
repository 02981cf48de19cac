"""URLs that may be fetched: BF-FETCH-03, BF-FETCH-08, BF-SEC-06, -08, -10."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import AddressPolicy
from schemas.errors import ForbiddenAddress, InvalidURL
from schemas.urls import (
    BAD_PORTS,
    MAX_LENGTH,
    check_address,
    literal_address,
    origin_of,
    parse_url,
)

BASE = "https://podcasts.example/shows/1?x#y"


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://e.example", "https://e.example/"),
        ("ep.mp3", "https://podcasts.example/shows/ep.mp3"),
        ("", "https://podcasts.example/shows/1?x"),
        ("//cdn.example/a", "https://cdn.example/a"),
        ("http:///h/x", "http://h/x"),
        ("HTTP://E.Example:80/%7Ea/../b?c d", "http://e.example/b?c%20d"),
        ("https://e.example/#part one", "https://e.example/#part%20one"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://e.example\\a\\b", "https://e.example/a/b"),
        ("https://e.ex\nample/a\tb", "https://e.example/ab"),
        ("https://e.example/\x00a", "https://e.example/%00a"),
        ("https://e.example/<", "https://e.example/%3C"),
        ("https://e.example/u:p@h", "https://e.example/u:p@h"),
        ("https://@e.example/", "https://e.example/"),
    ],
)
def test_a_url_is_parsed_as_browsers_do(value: str, url: str) -> None:
    assert parse_url(value, BASE) == url
    assert parse_url(url, None) == url


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("http://[::1", "cannot be parsed"),
        ("http://e.example:99999/", "cannot be parsed"),
        ("http://a b/", "cannot be parsed"),
        ("http://256.1.1.1/", "cannot be parsed"),
        ("http://a%00b/", "cannot be parsed"),
        ("http://h/\ud800", "lone surrogate"),
        *(
            (f"{scheme}:x", f"scheme is {scheme!r}; use http or https")
            for scheme in [
                "file",
                "data",
                "blob",
                "ftp",
                "gopher",
                "wss",
                "javascript",
                "foobar",
            ]
        ),
        ("file:///etc/passwd", "scheme is 'file'"),
        ("blob:https://e.example/1", "scheme is 'blob'"),
        ("https://u:p@h", "user name or password"),
        ("https://u:@h", "user name or password"),
        ("https://:p@h", "user name or password"),
        ("https://e/?\n<", "line break or tab"),
        ("https://e/?\r<", "line break or tab"),
        ("https://e/?<\t", "line break or tab"),
        ("https://e/" + "a" * MAX_LENGTH, f"the limit is {MAX_LENGTH}"),
        ("https://e/" + "ü" * (MAX_LENGTH // 2), f"the limit is {MAX_LENGTH}"),
        (7, "must be a string"),
    ],
)
def test_a_url_that_may_not_be_fetched_is_refused_for_its_reason(
    value: str, reason: str
) -> None:
    """BF-FETCH-03, BF-SEC-06, BF-SEC-10."""
    with pytest.raises(InvalidURL, match=reason) as refused:
        parse_url(value, BASE)

    assert len(str(refused.value)) < 500


def test_a_relative_url_needs_a_base() -> None:
    with pytest.raises(InvalidURL, match=r"'a/b' .* without a base URL"):
        parse_url("a/b", None)


def test_a_password_is_not_repeated_in_the_message() -> None:
    with pytest.raises(InvalidURL) as refused:
        parse_url("https://ada:s3cret@e.example/", None)

    assert "s3cret" not in str(refused.value)
    assert "e.example" in str(refused.value)


@pytest.mark.parametrize("port", sorted(BAD_PORTS))
def test_a_bad_port_is_blocked(port: int) -> None:
    """BF-SEC-08."""
    with pytest.raises(InvalidURL, match=f"port {port} is blocked"):
        parse_url(f"https://e.example:{port}/", None)
    with pytest.raises(InvalidURL, match=f"port {port} is blocked"):
        parse_url(f"http://[2606:4700::1]:{port}/", None)


def test_there_are_83_bad_ports_and_no_usual_one_among_them() -> None:
    assert len(BAD_PORTS) == 83
    assert not BAD_PORTS & {80, 443, 8000, 8080, 8443, 8780}
    assert parse_url("https://e.example:80/", None) == "https://e.example:80/"


@pytest.mark.parametrize(
    "host",
    [
        *("2852039166", "0251.0376.0251.0376", "127.1", "0", "0x7f.1", "127。0。0。1"),
        *("ⓛocalhost", "LOCALHOST", "localhost.", "foo.localhost", "127.0.0.1."),
        *("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "①②⑦.0.0.1"),
        *("0x7f000001", "017700000001", "10.0.0.1:8080", "[fc00::1]:8443"),
    ],
)
def test_every_spelling_of_a_forbidden_address_is_refused(host: str) -> None:
    """BF-SEC-07."""
    url = parse_url(f"http://{host}/x", None)

    with pytest.raises(ForbiddenAddress, match="BGFETCH_ALLOW_NETWORKS"):
        check_address(url, AddressPolicy())


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "[2606:4700::1]", "e.example", "localhost.example", "a1", "1.a"]
)
def test_a_public_literal_or_a_name_passes(host: str) -> None:
    check_address(parse_url(f"http://{host}:8080/", None), AddressPolicy())


@pytest.mark.parametrize("networks", ["loopback", "127.0.0.0/8", "::1/128"])
def test_localhost_passes_where_either_loopback_is_allowed(networks: str) -> None:
    policy = AddressPolicy.parse(networks)

    check_address("http://localhost:8000/", policy)
    check_address("http://api.localhost/", policy)


def test_a_literal_address_is_found_and_a_name_is_not() -> None:
    assert literal_address("http://127.0.0.1:81/x") == "127.0.0.1"
    assert literal_address("http://[::1]:81/x") == "::1"
    assert literal_address("http://[::1]/x") == "::1"
    assert literal_address("http://a1/x") is None
    assert literal_address("http://e.example:81/127.0.0.1") is None


def test_an_origin_is_scheme_host_and_a_port_that_is_not_the_default() -> None:
    assert origin_of(parse_url("https://E.example:443/a?b#c", None)) == (
        "https://e.example"
    )
    assert origin_of("http://[::1]:8080/") == "http://[::1]:8080"


@given(st.text(), st.sampled_from([None, BASE]))
def test_any_text_is_refused_or_parsed_once_for_all(
    value: str, base: str | None
) -> None:
    try:
        url = parse_url(value, base)
    except InvalidURL:
        return
    assert parse_url(url, None) == url
    assert url.isascii()
    assert url.isprintable()
    assert "@" not in url.split("/")[2]
