"""Pieces of a part: which of them have its bytes, whoever wrote them (R3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.pieces import Piece, covering

PIECES = st.lists(
    st.builds(
        lambda start, size: Piece(start, start + size),
        st.integers(0, 60),
        st.integers(0, 20),
    ),
    max_size=12,
)


@given(PIECES)
def test_what_is_chosen_covers_all_that_can_be_from_the_first_byte_on(
    pieces: list[Piece],
) -> None:
    chosen = covering(pieces)

    reached = 0
    for piece in chosen:  # each begins where bytes are covered, and adds some
        assert piece in pieces
        assert piece.start <= reached < piece.end
        reached = piece.end
    assert not any(piece.start <= reached < piece.end for piece in pieces)


@given(PIECES)
def test_starts_and_ends_of_what_is_chosen_both_rise(pieces: list[Piece]) -> None:
    """A reader looks for its place by halves."""
    chosen = covering(pieces)

    assert [piece.start for piece in chosen] == sorted({p.start for p in chosen})
    assert [piece.end for piece in chosen] == sorted({p.end for p in chosen})


def test_bytes_beyond_a_gap_are_nobodys() -> None:
    assert covering([Piece(0, 10), Piece(11, 20)]) == [Piece(0, 10)]
    assert covering([Piece(1, 10)]) == []
    assert covering([]) == []
