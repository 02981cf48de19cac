"""Which bytes each of several streams brings: all of them, and none twice (R3)."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from broker.spans import Spans
from workers.segments import LARGEST, Plan, Segment

LEAST = 10


class Model:
    """A file of marks, one a byte, and streams that set them as a plan says."""

    def __init__(self, length: int, streams: int) -> None:
        self.plan = Plan(length, streams, LEAST)
        self.streams = streams
        self.length = length
        self.edge = 0
        self.spans = Spans()
        self.brought = bytearray(length)
        self.main = True

    def advance_main(self, count: int) -> None:
        """The main stream brings so many bytes, or ends where it meets others."""
        bound = self.plan.bound(self.edge, self.spans)
        for position in range(self.edge, min(self.edge + count, bound)):
            self.bring(position)
        self.edge = min(self.edge + count, bound)
        if self.edge == bound:
            self.main = False
            self.join()

    def begin(self) -> Segment | None:
        """A side stream asks for a segment, which nobody else has or brings."""
        before = [(each.at, each.end) for each in self.plan.active]
        segment = self.plan.begin(self.edge, self.spans, main=self.main)
        if segment is not None:
            assert self.edge <= segment.start < segment.end <= self.length
            assert not any(self.brought[segment.start : segment.end])
            halved = [each for each in before if each[0] < segment.start < each[1]]
            assert len(halved) <= 1
            now = sorted((each.start, each.end) for each in self.plan.active)
            assert all(a[1] <= b[0] for a, b in pairwise(now))
        return segment

    def prove(self, segment: Segment) -> None:
        """Its answer comes, and is no use where the main stream has been."""
        segment.proved = segment.proved or (
            self.edge < segment.start or (self.edge == segment.start and not self.main)
        )
        if not segment.proved:
            self.plan.end(segment)

    def advance(self, segment: Segment, count: int) -> None:
        """A side stream brings so many bytes."""
        end = min(segment.at + count, segment.end)
        for position in range(segment.at, end):
            self.bring(position)
        if end > segment.at:
            self.spans.add(segment.at, end)
        segment.at = end
        if not self.main:
            self.join()
        if segment.at == segment.end:
            self.plan.end(segment)

    def bring(self, position: int) -> None:
        """A byte arrives."""
        assert not self.brought[position], "brought twice"
        self.brought[position] = 1

    def join(self) -> None:
        """The edge moves over what is stored."""
        self.edge = self.spans.reached(self.edge)
        assert all(self.brought[: self.edge])


def test_what_the_main_stream_has_passed_is_not_shared() -> None:
    """Before an answer proved it, a segment stops nobody."""
    model = Model(80, 2)
    asked = model.begin()
    model.advance_main(80)

    assert asked is not None
    assert (model.edge, asked.proved) == (80, False)
    assert model.begin() is None


@given(st.data())
def test_segments_cover_the_file_exactly_whatever_ends_or_fails_first(
    data: st.DataObject,
) -> None:
    """R3, R5: no byte is missing, and none is written by two streams."""
    model = Model(data.draw(st.integers(1, 600)), data.draw(st.integers(2, 6)))
    for _ in range(data.draw(st.integers(0, 60))):
        active = model.plan.active
        match data.draw(st.sampled_from(("main", "begin", "prove", "move", "fail"))):
            case "main" if model.main:
                model.advance_main(data.draw(st.integers(0, 80)))
            case "begin" if len(active) < model.streams - model.main:
                model.begin()
            case "prove" if active:
                model.prove(data.draw(st.sampled_from(active)))
            case "move":
                proved = [segment for segment in active if segment.proved]
                if proved:
                    segment = data.draw(st.sampled_from(proved))
                    model.advance(segment, data.draw(st.integers(0, 80)))
            case "fail" if data.draw(st.booleans()):
                model.main = False
                model.join()
            case "fail" if active:
                model.plan.end(data.draw(st.sampled_from(active)))
    # Whoever is left goes on, one by one.
    while model.edge < model.length:
        if model.main:
            model.advance_main(model.length)
        for segment in list(model.plan.active):
            model.prove(segment)
            if segment.proved:
                model.advance(segment, model.length)
        if not model.main and model.edge < model.length and not model.plan.active:
            assert model.begin() is not None

    assert all(model.brought)
    assert not list(model.spans)


def test_the_nearest_gap_comes_first_and_the_main_stream_keeps_a_share() -> None:
    """R8: what readers may have grows all along."""
    plan = Plan(1000, 4, LEAST)

    first = plan.begin(0, [], main=True)
    second = plan.begin(0, [], main=True)

    assert first is not None
    assert second is not None
    assert first.start == LARGEST * LEAST
    assert second.start == first.end


def test_segments_are_small_towards_the_end() -> None:
    plan = Plan(1000, 2, LEAST)

    sizes: list[int] = []
    while sum(sizes) < 1000:
        segment = plan.begin(0, [], main=False)
        assert segment is not None
        sizes.append(segment.end - segment.start)

    assert sizes[0] == LARGEST * LEAST
    assert LEAST <= sizes[-1] < 2 * LEAST


def test_what_is_only_asked_for_does_not_stop_the_main_stream() -> None:
    """R7: nobody knows yet whether the origin answers ranges."""
    plan = Plan(1000, 2, LEAST)
    segment = plan.begin(0, [], main=True)
    assert segment is not None

    assert plan.bound(0, []) == 1000
    segment.proved = True
    assert plan.bound(0, []) == segment.start
    assert plan.bound(0, [(20, 30)]) == 20


def test_a_free_stream_takes_over_half_of_what_another_has_most_of() -> None:
    plan = Plan(100, 2, 10)
    slow = plan.begin(0, [(0, 40)], main=False)
    assert slow is not None
    while plan.begin(40, [], main=False) is not None:
        pass

    spread = sorted((each.start, each.end) for each in plan.active)
    assert spread[0][0] == 40
    assert spread[-1][1] == 100
    assert all(end - start < 2 * 10 for start, end in spread)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20))))
def test_spans_are_the_positions_that_were_added(adds: list[tuple[int, int]]) -> None:
    spans, model = Spans(), set[int]()
    for start, size in adds:
        spans.add(start, start + size)
        model |= set(range(start, start + size))

    found = [position for start, end in spans for position in range(start, end)]
    assert found == sorted(model)
    assert spans.size == len(model)
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    reached = spans.reached(7)
    assert reached == next(at for at in range(7, 80) if at not in model)
