"""Redirects: BF-SEC-06, -08, -11, -12 and Fetch § HTTP-redirect fetch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import AddressPolicy
from schemas.records import ResponseHead
from workers.exchange import Fault, Outgoing, TransferError
from workers.redirects import RedirectRefused, next_hop

HERE = "https://origin.example/a/b?c#part"
SECRETS = (("Authorization", "Bearer x"), ("Cookie", "a=b"), ("X-API-Key", "k"))
GET = Outgoing("GET", HERE, (("Accept", "*/*"), *SECRETS))


class _Once:
    """A request body."""

    length = 2

    def read(self, size: int) -> bytes:
        return b"ab"

    def rewind(self) -> None:
        """Begin again."""


POST = Outgoing("POST", HERE, (("Content-Type", "a/b"), ("Accept", "*/*")), _Once())


def answer(location: str | None, status: int = 302) -> ResponseHead:
    headers = () if location is None else (("location", location),)
    return ResponseHead(status=status, headers=headers, url=HERE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_names_the_next_hop(status: int) -> None:
    hop = next_hop(GET, answer("/x#y", status), count=0)

    assert hop == Outgoing("GET", "https://origin.example/x#y", GET.headers)


@pytest.mark.parametrize("status", [200, 206, 300, 304, 305, 306, 404])
def test_other_statuses_are_no_redirects(status: int) -> None:
    assert next_hop(GET, answer("/x", status), count=0, mode="error") is None


def test_a_redirect_without_location_is_a_response() -> None:
    assert next_hop(GET, answer(None), count=0) is None


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("x", "https://origin.example/a/x#part"),
        ("", "https://origin.example/a/b?c#part"),
        ("#other", "https://origin.example/a/b?c#other"),
        ("/x#", "https://origin.example/x#"),
        ("//cdn.example/x", "https://cdn.example/x#part"),
        ("https:/x", "https://origin.example/x#part"),
        ("https:////x", "https://x/#part"),
        ("  /x \t", "https://origin.example/x#part"),
        ("../../../x/./y/../z", "https://origin.example/x/z#part"),
        ("\\\\cdn.example\\x", "https://cdn.example/x#part"),
        (
            "/a%0d%0aSet-Cookie:%20x",
            "https://origin.example/a%0d%0aSet-Cookie:%20x#part",
        ),
        ("/a b", "https://origin.example/a%20b#part"),
        ("/ü".encode().decode("latin-1"), "https://origin.example/%C3%BC#part"),
        ("/ü", "https://origin.example/%FC#part"),
        ("//b\u00c3\u00bccher.example/", "https://xn--bcher-kva.example/#part"),
    ],
)
def test_a_location_is_resolved_as_browsers_do(location: str, url: str) -> None:
    hop = next_hop(GET, answer(location), count=0)

    assert hop is not None
    assert hop.url == url


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "scheme"),
        ("gopher://cdn.example/", "scheme"),
        ("data:,x", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("https://cdn.example:25/", "port 25"),
        ("https://u:p@cdn.example/", "user name or password"),
        ("https://u:p@origin.example/", "user name or password"),
        ("https://[::1", "cannot be parsed"),
        ("/" + "x" * 40_000, "limit"),
        ("http://origin.example/", "from https to http"),
        ("https://127.0.0.1/", "loopback"),
        ("https://0x7f.1:8443/", "loopback"),
        ("https://[::ffff:169.254.169.254]/", "metadata"),
        ("https://localhost/", "loopback"),
        ("https://elsewhere.example/", "not on the list"),
    ],
)
def test_a_url_that_may_not_be_fetched_is_refused_after_a_redirect_too(
    location: str, reason: str
) -> None:
    """BF-SEC-06, BF-SEC-08."""
    with pytest.raises(RedirectRefused, match=reason) as refused:
        next_hop(
            GET,
            answer(location),
            count=0,
            policy=AddressPolicy(),
            refusal=lambda url: "not on the list" if "elsewhere" in url else None,
        )

    assert isinstance(refused.value, TransferError)
    assert refused.value.fault is Fault.FORBIDDEN


def test_two_different_locations_are_refused_and_two_equal_ones_are_one() -> None:
    both = (("Location", "/x"), ("LOCATION", "/y"))
    same = (("Location", "/x"), ("LOCATION", "/x"))

    with pytest.raises(RedirectRefused, match="2 different Location") as refused:
        next_hop(GET, ResponseHead(status=302, headers=both), count=0)
    hop = next_hop(GET, ResponseHead(status=302, headers=same), count=0)

    assert refused.value.fault is Fault.MALFORMED
    assert hop is not None


def test_the_twentieth_redirect_is_the_last() -> None:
    """BF-SEC-11."""
    assert next_hop(GET, answer("/x"), count=19) is not None
    with pytest.raises(RedirectRefused, match="more than 20 redirects"):
        next_hop(GET, answer("/x"), count=20)


def test_a_downgrade_is_taken_where_it_is_allowed() -> None:
    hop = next_hop(GET, answer("http://o.example/"), count=0, allow_downgrade=True)

    assert hop is not None
    assert hop.url == "http://o.example/#part"


def test_an_upgrade_to_https_is_taken() -> None:
    plain = Outgoing("GET", "http://origin.example/")

    assert next_hop(plain, answer("https://origin.example/"), count=0) is not None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_mode_error_refuses_and_mode_manual_leaves_a_redirect(status: int) -> None:
    """BF-SEC-12."""
    assert next_hop(GET, answer("/x", status), count=0, mode="manual") is None
    with pytest.raises(RedirectRefused, match="not allowed"):
        next_hop(GET, answer("/x", status), count=0, mode="error")


@pytest.mark.parametrize(
    ("status", "method", "becomes"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (303, "PUT", "GET"),
        (303, "GET", "GET"),
        (303, "HEAD", "HEAD"),
    ],
)
def test_the_method_follows_the_rules_of_fetch(
    status: int, method: str, becomes: str
) -> None:
    """BF-SEC-11."""
    sent = Outgoing(method, HERE, POST.headers, POST.body)

    hop = next_hop(sent, answer("/x", status), count=0)

    assert hop is not None
    assert hop.method == becomes
    keeps = becomes == method
    assert hop.body is (POST.body if keeps else None)
    assert (("Content-Type", "a/b") in hop.headers) is keeps
    assert ("Accept", "*/*") in hop.headers


@pytest.mark.parametrize(
    "location",
    ["https://other.example/", "https://origin.example:8443/", "//www.origin.example/"],
)
def test_secrets_do_not_leave_their_origin(location: str) -> None:
    """BF-SEC-11."""
    sent = Outgoing("GET", HERE, (*GET.headers, ("X-Ours", "s")))

    hop = next_hop(sent, answer(location), count=0, secrets=["x-ours"])

    assert hop is not None
    assert hop.headers == (("Accept", "*/*"),)


def test_secrets_stay_within_their_origin() -> None:
    hop = next_hop(GET, answer("https://origin.example:443/x"), count=0)

    assert hop is not None
    assert hop.headers == GET.headers


@given(st.text(st.characters(max_codepoint=255)))
def test_any_location_is_refused_or_leads_to_http(location: str) -> None:
    try:
        hop = next_hop(GET, answer(location), count=0)
    except RedirectRefused:
        return
    assert hop is not None
    assert hop.url.startswith("https://")
    assert hop.url.isascii()
    assert not set("\r\n\0 ") & set(hop.url)
