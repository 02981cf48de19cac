"""What a person asks for among many fetches, as text and as a value."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidFilter
from schemas.fetches import FailureReason, Priority
from schemas.queries import FetchFilter, ListedState, Searched, listed_state

EPISODE = Searched(
    "ep-5",
    "Episode Five",
    "cdn.example img.example:8443",
    "/audio/ep-5.mp3",
    "bad-status",
    "high",
)


def test_a_filter_is_read_as_a_person_types_it() -> None:
    text = (
        'scope:podcasts state:failed reason:bad-status id:ep-* q:"free text" '
        "host:CDN.example  priority:high word"
    )

    assert FetchFilter.parse(text) == FetchFilter(
        scope="podcasts",
        state=ListedState.FAILURE,
        reasons=frozenset({FailureReason.BAD_STATUS}),
        ids=("ep-*",),
        hosts=("cdn.example",),
        priorities=frozenset({Priority.HIGH}),
        words=("free text", "word"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "scope:podcasts state:active",
        "reason:aborted reason:bad-status id:a id:b",
        r'id:"a \"b\" \\ c" q:"x:y" q:"two words"',
        "host:[::1] priority:low",
    ],
)
def test_a_filter_as_text_reads_as_the_same_filter(text: str) -> None:
    filter = FetchFilter.parse(text)

    assert FetchFilter.parse(str(filter)) == filter


def test_a_filter_from_the_fields_of_a_form_is_the_same_as_from_text() -> None:
    filter = FetchFilter.of(
        scope="a", state="success", reasons=["aborted"], ids=["x*"], words=["w"]
    )

    assert filter == FetchFilter.parse("scope:a state:success reason:aborted id:x* w")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id:ep-5",
        "id:ep-*",
        "id:*-5",
        "id:e*-*5",
        "id:other id:ep-5",
        "host:cdn.example",
        "host:*.example",
        "host:img.example",
        "host:img.example:8443",
        "reason:aborted reason:bad-status",
        "priority:high",
        "five EP-5.MP3",
        'q:"episode five"',
        "q:img.example",
        "q:bad-status id:ep*",
    ],
)
def test_a_filter_matches_what_it_asks_for(text: str) -> None:
    assert FetchFilter.parse(text).matches(EPISODE)


@pytest.mark.parametrize(
    "text",
    [
        "id:ep",
        "id:EP-5",
        "id:ep-5*5",
        "id:ep?5",
        "host:example",
        "host:img.example:80",
        "reason:aborted",
        "priority:low",
        "five six",
        'q:"five episode"',
        "id:ep-5 host:other.example",
    ],
)
def test_a_filter_does_not_match_what_it_does_not_ask_for(text: str) -> None:
    assert not FetchFilter.parse(text).matches(EPISODE)


def test_a_pattern_with_very_many_stars_costs_no_more_than_its_text() -> None:
    filter = FetchFilter.parse("id:" + "a*" * 1000 + "b")

    assert not filter.matches(Searched("a" * 1024))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("reason:bad", "'reason:bad': there is no such reason; there are aborted"),
        ("state:gone", "'state:gone': there is no such state; there are active"),
        ("priority:1", "'priority:1'"),
        ("colour:red", "'colour:red': there is no 'colour' to ask for, but scope"),
        ("id:x id:", "'id:' has no value"),
        ('id:""', "'id:' has no value"),
        ('q:"open', "'q:\"open' cannot be read"),
        ('a"b"', "'a\"b\"' cannot be read"),
        ("scope:a scope:b", "only one scope can be asked for, got scope:a and scope:b"),
        ("scope:-", "'scope:-': '-' is no scope name"),
        ("x" * 5000, "at most 4096 bytes"),
    ],
)
def test_what_cannot_be_understood_is_shown_in_the_error(text: str, shown: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        FetchFilter.parse(text)

    assert shown in str(caught.value)


def test_a_state_goes_by_the_words_that_people_use_for_it() -> None:
    assert listed_state("failed") is listed_state("failure") is ListedState.FAILURE
    assert listed_state("succeeded") is ListedState.SUCCESS
