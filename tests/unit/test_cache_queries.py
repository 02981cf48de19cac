"""Which stored requests a query matches (§ request matches cached item)."""

from __future__ import annotations

import pytest

from broker.records import MatchOptions, same_resource, varies
from schemas.records import ResponseHead
from schemas.requests import Request

URL = "https://cdn.example/a"
PLAIN = MatchOptions()
SEARCH = MatchOptions(ignore_search=True)
METHOD = MatchOptions(ignore_method=True)


@pytest.mark.parametrize(
    ("stored", "query", "by_default", "without_search"),
    [
        (URL, URL, True, True),
        (URL + "#one", URL + "#two", True, True),
        (URL + "?q#one", URL + "?q", True, True),
        (URL + "?#one", URL + "?", True, True),
        (URL + "?", URL, False, True),
        (URL + "?q", URL + "?r", False, True),
        (URL + "?q#?r", URL + "?q#?s", True, True),
        (URL + "#?q", URL + "#?r", True, True),
        (URL + "?q", URL + "?Q", False, True),
        (URL + "%3Fq", URL + "?q", False, False),
        (URL + "/", URL, False, False),
        (URL, "http://cdn.example/a", False, False),
        (URL, "https://cdn.example:443/a", True, True),
        (URL, "https://CDN.example/b/../a", True, True),
        (URL, "https://cdn.example/A", False, False),
    ],
)
def test_fragments_never_count_and_queries_unless_ignored(
    stored: str, query: str, by_default: bool, without_search: bool
) -> None:
    """BF-MATCH-06."""
    ours, theirs = (Request(url).resolve(None) for url in (stored, query))

    for one, other in ((ours, theirs), (theirs, ours)):
        assert same_resource(one, other, PLAIN) is by_default
        assert same_resource(one, other, SEARCH) is without_search


@pytest.mark.parametrize("stored", ["GET", "HEAD", "POST", "PUT", "get"])
@pytest.mark.parametrize("query", ["GET", "HEAD", "PUT"])
def test_only_the_method_of_the_stored_request_counts(stored: str, query: str) -> None:
    """BF-MATCH-07, BF-MATCH-11."""
    ours, theirs = Request(URL, method=stored), Request(URL, method=query)

    assert same_resource(ours, theirs, PLAIN) is (stored.upper() == "GET")
    assert same_resource(ours, theirs, METHOD)


@pytest.mark.parametrize(
    ("vary", "stored", "query", "apart"),
    [
        ([], {"Accept": "a"}, {"Accept": "b"}, False),
        ([""], {"Accept": "a"}, {"Accept": "b"}, False),
        (["*"], {}, {}, True),
        (["Accept, *"], {}, {}, True),
        (["accept"], {"Accept": "a"}, {"ACCEPT": "a"}, False),
        (["Accept"], {"Accept": "a"}, {"Accept": "A"}, True),
        (["Accept"], {"Accept": "a"}, {}, True),
        (["Accept"], {}, {}, False),
        (["Accept"], {"Accept": ""}, {}, True),
        (["X-One", "X-Two"], {"X-Two": "a"}, {"X-Two": "b"}, True),
        (["X-One ,, X-Two"], {"X-Two": "a"}, {"X-Two": "b"}, True),
        (["X-One"], {"X-Two": "a"}, {"X-Two": "b"}, False),
    ],
)
def test_vary_compares_what_it_names(
    vary: list[str], stored: dict[str, str], query: dict[str, str], apart: bool
) -> None:
    """BF-MATCH-08."""
    head = ResponseHead(status=200, headers=tuple(("Vary", value) for value in vary))
    ours, theirs = Request(URL, headers=stored), Request(URL, headers=query)

    assert varies(head, ours, theirs) is apart


def test_headers_that_were_given_apart_or_joined_are_the_same() -> None:
    """BF-MATCH-08: their combined value counts."""
    head = ResponseHead(status=200, headers=(("Vary", "X-Many"),))
    apart = Request(URL, headers=[("X-Many", "a"), ("x-many", "b")])
    joined = Request(URL, headers={"X-Many": "a, b"})

    assert not varies(head, apart, joined)
