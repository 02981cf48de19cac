"""What people do to all fetches that a filter matches: ``bgfetch abort --filter …``."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.output import is_terminal, put, put_json, say
from broker.cli.running import in_scope
from broker.cli.sure import make_sure
from schemas.bulk import Action, BulkOutcome
from schemas.errors import Unreachable
from schemas.queries import FetchFilter, listed_state

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager

AnyId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="the id given to fetch()")
]
FilterText = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="FILTER",
        help="every fetch that matches, as 'reason:bad-status id:ep-* host:cdn.example "
        "priority:high some words'; with 'scope:NAME' instead of --scope",
        show_default=False,
    ),
]
StateName = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="every fetch that is active, paused, success, failed, aborted or awaiting "
        "(ended, its records still held)",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TEXT",
        help="with --filter or --state: go on with a call that was interrupted",
        show_default=False,
    ),
]


def asked(text: str | None, state: str | None, scope: str) -> FetchFilter | None:
    """The filter that these options mean, None if neither is there.

    Raises:
        InvalidFilter: it cannot be understood.
    """
    if text is None and state is None:
        return None
    filter = FetchFilter.parse(text or "")
    if state is not None:
        filter = replace(filter, state=listed_state(state))
    return filter if filter.scope is not None else replace(filter, scope=scope)


def chosen(
    id: str | None, text: str | None, state: str | None, scope: str
) -> str | FetchFilter:
    """What is to be acted on: one fetch, by its id, or all that match a filter.

    Raises:
        InvalidFilter: the filter cannot be understood.
        typer.BadParameter: neither is given, or both.
    """
    filter = asked(text, state, scope)
    found = id if filter is None else filter
    if found is None or None not in (id, filter):
        raise typer.BadParameter("give the ID of one fetch, or --filter or --state")
    return found


def act_on_many(
    action: Action,
    filter: FetchFilter,
    redis_url: str | None,
    *,
    token: str | None,
    yes: bool,
    json: bool,
    force: bool = False,
) -> int:
    """Do ``action`` to all that match, once a person has agreed."""
    if not yes:
        make_sure(f"{action} every fetch that matches {str(filter)!r}?")
    token = token or secrets.token_hex(8)
    work = partial(_run, action, filter, token, force)
    try:
        outcome = in_scope(filter.scope or "default", redis_url, work)
    except BaseException as error:
        if not isinstance(error, Exception) or isinstance(error, Unreachable):
            say(f"not done yet: the same command with --token {token} goes on")
        raise
    if json:
        put_json(outcome.model_dump(mode="json"))
    else:
        for told in outcome.told:
            say(f"{told.scope}/{told.id}: {told.error}")
        put(_told(outcome))
    return ExitCode.NO if outcome.failed else ExitCode.OK


async def _run(
    action: Action,
    filter: FetchFilter,
    token: str,
    force: bool,
    manager: BackgroundFetchManager,
) -> BulkOutcome:
    from broker.bulk import Bulk

    def show(outcome: BulkOutcome) -> None:
        if is_terminal() and not outcome.finished:
            say(_told(outcome))

    acts = Bulk(manager.connection, manager.settings)
    return await acts.run(action, filter, token=token, force=force, progress=show)


def _told(outcome: BulkOutcome) -> str:
    return (
        f"matched {outcome.matched}, done {outcome.done}, "
        f"skipped {outcome.skipped}, failed {outcome.failed}"
    )
