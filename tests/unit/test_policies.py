"""The rules of a scope: patterns of origins, https, and bytes."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidMessage, InvalidOptions, InvalidURL, QuotaExceeded
from schemas.policies import OriginPattern, ScopePolicy
from schemas.urls import parse_url


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (
            "https://cdn.example",
            [
                "https://cdn.example/a?b#c",
                "https://CDN.example:443/",
                "https://cdn.example./",
            ],
            [
                "http://cdn.example/",
                "https://cdn.example:8443/",
                "https://a.cdn.example/",
                "https://cdn.example.evil.example/",
                "https://evil.example/cdn.example",
            ],
        ),
        (
            "cdn.example",
            ["https://cdn.example/", "http://cdn.example:8080/"],
            ["https://xcdn.example/"],
        ),
        (
            "*.example.com",
            ["https://a.example.com/", "http://a.b.example.com:81/"],
            ["https://example.com/", "https://badexample.com/"],
        ),
        (
            "http://*.example.com:*",
            ["http://a.example.com:81/", "http://a.example.com/"],
            ["https://a.example.com/"],
        ),
        (
            "cdn.example:8443",
            ["https://cdn.example:8443/", "http://cdn.example:8443/"],
            ["https://cdn.example/"],
        ),
        ("cdn.example:443", ["https://cdn.example/"], ["http://cdn.example/"]),
        ("https://Bücher.example/", ["https://xn--bcher-kva.example/"], []),
        ("[::1]:8080", ["http://[0:0::1]:8080/"], ["http://[::1]/", "http://[::2]/"]),
        ("0x7f.1", ["http://127.0.0.1:99/"], ["http://127.0.0.2/"]),
    ],
)
def test_a_pattern_stands_for_origins(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    parsed = OriginPattern.parse(pattern)

    assert [url for url in matching if not parsed.matches(parse_url(url, None))] == []
    assert [url for url in others if parsed.matches(parse_url(url, None))] == []
    assert OriginPattern.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "https://",
        "ftp://cdn.example",
        "https://cdn.example/path",
        "https://cdn.example?x",
        "user@cdn.example",
        "cdn.*.example",
        "*cdn.example",
        "cdn.example:port",
        "cdn.example:123456",
        "a b",
        "https://[::1",
    ],
)
def test_what_is_no_pattern_is_refused_with_what_it_should_be(text: str) -> None:
    with pytest.raises(InvalidURL, match=r"is no pattern of origins: write") as refused:
        OriginPattern.parse(text)

    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("policy", "url", "reason"),
    [
        (ScopePolicy(), "http://a.example/", None),
        (ScopePolicy(https_only=True), "https://a.example/", None),
        (ScopePolicy(https_only=True), "http://a.example/", "it is not https"),
        (ScopePolicy(deny=("a.example",)), "https://b.example/", None),
        (
            ScopePolicy(deny=("a.example",)),
            "https://a.example/",
            "'a.example' is denied",
        ),
        (ScopePolicy(allow=("a.example", "b.example")), "https://b.example/", None),
        (
            ScopePolicy(allow=("a.example", "b.example")),
            "https://c.example/",
            "only a.example, b.example is allowed",
        ),
        (
            ScopePolicy(allow=("*.example",), deny=("a.example",)),
            "https://a.example/",
            "'a.example' is denied",
        ),
    ],
)
def test_a_policy_names_the_rule_that_refuses_an_origin(
    policy: ScopePolicy, url: str, reason: str | None
) -> None:
    """Design §7; a denial wins."""
    refusal = policy.refusal(url)

    if reason is None:
        assert refusal is None
    else:
        origin = url.rstrip("/")
        assert refusal == f"{origin} is refused by the policy of the scope: {reason}"


def test_a_policy_is_read_as_it_was_written_and_nothing_is_no_rule() -> None:
    policy = ScopePolicy.checked(
        https_only=True, allow=["https://A.example:443"], deny=["*.b"], max_bytes=10
    )

    assert policy.allow == ("https://a.example",)
    assert ScopePolicy.read(policy.text.encode()) == policy
    assert ScopePolicy.read(None) == ScopePolicy.read(b"") == ScopePolicy()
    assert ScopePolicy().text == ""


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"maxBytes":"x"}'])
def test_what_is_no_policy_is_not_taken_for_no_rules(text: bytes) -> None:
    with pytest.raises(InvalidMessage):
        ScopePolicy.read(text)


def test_more_bytes_than_allowed_are_refused_where_they_are_announced() -> None:
    ScopePolicy(max_bytes=10).check([], 10)

    with pytest.raises(QuotaExceeded, match="download_total is 11"):
        ScopePolicy(max_bytes=10).check([], 11)
    with pytest.raises(InvalidOptions, match="max_bytes must be in"):
        ScopePolicy.checked(max_bytes=-1)
