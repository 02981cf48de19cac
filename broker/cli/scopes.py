"""``bgfetch scope``: the rules for the fetches of a scope; which there are; removal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import removal
from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL, parsed
from broker.cli.output import put, put_json
from broker.cli.running import in_scope
from broker.quantities import shown_size
from schemas.sizes import parse_size

if TYPE_CHECKING:
    from broker.manager import BackgroundFetchManager
    from broker.policies import ScopeRules
    from schemas.policies import ScopePolicy

Name = Annotated[str, typer.Argument(metavar="SCOPE", help="the scope")]


def command_line() -> typer.Typer:
    """Make the verbs about scopes."""
    app = typer.Typer(
        help="List and remove scopes; set what their fetches may reach and store.",
        rich_markup_mode=None,
        no_args_is_help=True,
    )
    app.command("set")(set_)
    app.command()(show)
    app.command("list")(removal.list_)
    app.command()(removal.remove)
    return app


def set_(
    scope: Name,
    permission: Annotated[
        str,
        typer.Option(
            metavar="granted|denied|prompt",
            help="denied: `fetch` raises NotAllowedError; prompt: a fetch starts "
            "paused, `resume` approves it, `abort` refuses it",
        ),
    ] = "granted",
    require_active_worker: Annotated[
        bool,
        typer.Option(
            "--require-active-worker",
            help="refuse to fetch while nobody subscribes to the scope",
        ),
    ] = False,
    https_only: Annotated[
        bool, typer.Option("--https-only", help="refuse http, redirects too")
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="reach no origin but https://cdn.example, host:8080, *.example.com "
            "and the like (repeatable)",
            show_default=False,
        ),
    ] = None,
    deny_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="never reach these, allowed or not (repeatable)",
            show_default=False,
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            parser=parsed(parse_size),
            metavar="SIZE",
            help="what the responses, and the bodies, of a fetch may store: 10GB",
            show_default=False,
        ),
    ] = None,
    quota: Annotated[
        int | None,
        typer.Option(
            parser=parsed(parse_size),
            metavar="SIZE",
            help="what all fetches of the scope may store at a time, bodies too",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            metavar="HH:MM-HH:MM",
            help="transfer only in these hours of the day, by UTC: 22:00-06:00",
            show_default=False,
        ),
    ] = "",
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Set all rules of a scope: what is not given is not restricted.

    They hold for later fetches, at `fetch` and at every redirect; active fetches keep
    the rules that they began with.
    """
    from schemas.policies import ScopePolicy

    policy = ScopePolicy.checked(
        permission=permission,
        require_active_worker=require_active_worker,
        https_only=https_only,
        allow=allow_origin or (),
        deny=deny_origin or (),
        max_bytes=max_bytes or 0,
        quota=quota or 0,
        window=window,
    )
    _print(scope, in_scope(scope, redis_url, partial(_write, policy)), json)
    return ExitCode.OK


def show(scope: Name, redis_url: RedisURL = None, json: JSON = False) -> int:
    """Show the rules for the next fetches of a scope."""
    _print(scope, in_scope(scope, redis_url, _read), json)
    return ExitCode.OK


async def _write(policy: ScopePolicy, manager: BackgroundFetchManager) -> ScopeRules:
    from broker.policies import write_policy

    await write_policy(manager.connection, manager.scope, policy)
    return await _read(manager)


async def _read(manager: BackgroundFetchManager) -> ScopeRules:
    from broker.policies import read_rules

    return await read_rules(manager.connection, manager.scope)


def _print(scope: str, rules: ScopeRules, json: bool) -> None:
    policy = rules.policy
    if json:
        plain: dict[str, Any] = policy.model_dump(mode="json")
        put_json({"scope": scope} | plain | {"used": rules.used})
        return
    put(f"scope:      {scope}")
    put(f"permission: {policy.permission}")
    put(f"subscriber: {'required' if policy.require_active_worker else 'not required'}")
    put(f"https only: {'yes' if policy.https_only else 'no'}")
    put(f"allow:      {', '.join(policy.allow) or 'every origin'}")
    put(f"deny:       {', '.join(policy.deny) or 'none'}")
    limit = shown_size(policy.max_bytes) if policy.max_bytes else "no limit"
    put(f"max bytes:  {limit}")
    quota = shown_size(policy.quota) if policy.quota else "no limit"
    put(f"quota:      {quota}, {shown_size(rules.used)} used")
    put(f"window:     {policy.window + ' UTC' if policy.window else 'all day'}")
