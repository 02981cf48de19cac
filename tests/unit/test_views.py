"""What the API shows of a fetch has the names that commands print."""

from __future__ import annotations

from broker.gateway.views import FetchView
from broker.plain import as_plain
from schemas.fetches import FetchState


def test_a_fetch_is_shown_with_the_names_of_its_messages() -> None:
    state = FetchState(uid="u", id="x", scope="s")

    shown = FetchView.of(state, "why").model_dump()

    assert shown == as_plain(state) | {"waiting": "why"}
