"""``bgfetch health``: one question, for containers and supervisors: is it well?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli import exits
from broker.cli.exits import ExitCode
from broker.cli.options import JSON, RedisURL
from broker.cli.output import put, put_json, say
from broker.cli.running import configured, run

if TYPE_CHECKING:
    from broker.connection import Connection
    from broker.settings import Settings

PATIENCE = 5.0
"""Seconds in which Redis has to answer."""


class Part(StrEnum):
    """What is asked about."""

    WORKER = "worker"
    SUBSCRIBER = "subscriber"
    GATEWAY = "gateway"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Health:
    """The answer, and why."""

    ok: bool
    finding: str
    processes: Sequence[str] = ()
    warnings: Sequence[str] = ()


def health(
    part: Annotated[
        Part, typer.Option("--role", help="what has to be well")
    ] = Part.REDIS,
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope",
            "-s",
            metavar="NAME",
            help="with --role subscriber: of this scope; default: of any",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="with --role subscriber: this one; default: any",
            show_default=False,
        ),
    ] = None,
    redis_url: RedisURL = None,
    json: JSON = False,
) -> int:
    """Tell whether a part of the service is well here: exit code 0, else 1.

    A worker or subscriber is well if one of its processes on this host has told so
    within its lease: their event loops do, while they run. Redis is well if it answers
    within five seconds and can be used; that its settings may lose data is a warning,
    and no more.
    """
    settings = configured(scope, redis_url=redis_url)
    found = run(answer(settings, part, scope, name))
    if json:
        put_json(
            {
                "ok": found.ok,
                "role": part,
                "finding": found.finding,
                "processes": [*found.processes],
                "warnings": [*found.warnings],
            }
        )
    else:
        (put if found.ok else say)(found.finding)
        for warning in found.warnings:
            say(f"warning: {warning}")
    return ExitCode.OK if found.ok else ExitCode.NO


async def answer(
    settings: Settings,
    part: Part,
    scope: str | None = None,
    name: str | None = None,
) -> Health:
    """Look, for at most five seconds; a Redis that is away is an answer too."""
    from broker.connection import Connection
    from schemas.errors import Failure

    try:
        connection = Connection(settings.found_redis())
        try:
            async with asyncio.timeout(PATIENCE):
                if part is Part.REDIS:
                    return await _redis(connection)
                return await _processes(connection, part, scope, name)
        finally:
            await connection.aclose()
    except Failure as error:
        return Health(False, exits.told(error))
    except TimeoutError:
        return Health(False, f"Redis did not answer within {PATIENCE:g} s")


async def _redis(connection: Connection) -> Health:
    from broker.cli.server_checks import Verdict, server_checks
    from broker.connection import masked

    async with connection.answering():
        info = await connection.redis.info()
    first, *others = server_checks(info, masked(connection.url))
    wrong = [
        f"{check.name}: {check.finding}"
        for check in (first, *others)
        if check.verdict is Verdict.FAIL
    ]
    warnings = [
        f"{check.name}: {check.finding}"
        for check in others
        if check.verdict is Verdict.WARN
    ]
    return Health(not wrong, "; ".join(wrong) or first.finding, (), warnings)


async def _processes(
    connection: Connection, part: Part, scope: str | None, name: str | None
) -> Health:
    from broker.processes import Processes, host_name

    here = host_name()
    found = [
        process
        for process in await Processes(connection).alive()
        if process.role.value == part.value and process.host == here
    ]
    if part is Part.SUBSCRIBER:
        found = [each for each in found if _is_meant(each.subscriber, scope, name)]
    what = " ".join(filter(None, (part, name, f"of scope {scope}" if scope else "")))
    if not found:
        return Health(False, f"no process of a {what} on {here} says that it is well")
    told = f"{len(found)} of {what} on {here}"
    return Health(True, told, [process.name for process in found])


def _is_meant(subscriber: str, scope: str | None, name: str | None) -> bool:
    its_scope, _, its_name = subscriber.partition("/")
    return scope in (None, its_scope) and name in (None, its_name)
