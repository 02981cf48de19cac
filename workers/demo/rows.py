"""How one fetch is shown: as a bar while it runs, as a row when all is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.fetches import FailureReason, Result
from workers.demo.checks import Copy
from workers.demo.children import Member
from workers.demo.lookout import Watched
from workers.demo.screen import BAD, BUSY, GOOD, QUIET, Bar, Row


def bar(watched: Watched, members: Mapping[str, Member]) -> Bar:
    """The fetch as it stands."""
    state = watched.registration
    text, style = _state(watched, members)
    return Bar(
        name=watched.plan.id,
        done=state.downloaded,
        total=watched.plan.total,
        state=text,
        style=style,
        active=state.result is Result.ACTIVE,
        worker=spaced(watched.worker),
    )


def _state(watched: Watched, members: Mapping[str, Member]) -> tuple[str, str]:
    state = watched.registration
    if state.result is Result.SUCCESS:
        return "success", GOOD
    if state.failure_reason is FailureReason.ABORTED:
        return "aborted", QUIET  # somebody wished it
    if state.result is Result.FAILURE:
        return state.failure_reason, BAD
    if not watched.held:
        return "waiting", QUIET
    member = members.get(watched.worker)
    if member is not None and member.killed:
        return "worker lost", BAD
    return "downloading", BUSY


def row(watched: Watched, copies: Sequence[Copy]) -> Row:
    """The fetch as it ended."""
    state = watched.registration.state
    arrived = [copy for copy in copies if copy.arrived]
    right = [copy for copy in arrived if copy.right]
    return Row(
        name=watched.plan.id,
        result=f"{state.result} {state.failure_reason}".rstrip(),
        style=_state(watched, {})[1],
        files=f"{len(arrived)}/{len(copies)}",
        size=sum(copy.size for copy in arrived),
        attempts=sum(copy.attempts for copy in copies),
        sha256=_digests(len(right), len(arrived)),
        events=tuple(
            (
                event.type,
                f"{event.subscriber}, attempt {event.attempt}"
                if event.acknowledged
                else f"nobody: {event.status}",
            )
            for event in watched.events.values()
        ),
    )


def _digests(right: int, arrived: int) -> str:
    if right < arrived:
        return f"{arrived - right} WRONG"
    return f"{right} ok" if arrived else "-"


def spaced(name: str) -> str:
    """The name of a process as a sentence has it."""
    return name.replace("-", " ")
