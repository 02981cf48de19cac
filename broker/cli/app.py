"""The command line itself: its verbs, and how a run of it ends."""

from __future__ import annotations

import platform
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from typing import Annotated

import typer

from broker.cli import (
    accounts,
    act,
    dead,
    doctor,
    ended,
    fetch,
    health,
    listed,
    origins,
    replay,
    rq_dashboard,
    schema,
    scopes,
    show,
    subscribers,
    sweep,
)
from broker.cli.exits import (
    EPILOG,
    ChildEnded,
    ExitCode,
    Interrupted,
    code_of,
    told,
    told_as_json,
)
from broker.cli.options import Session, session_of
from broker.cli.output import put, say
from schemas.errors import BackgroundFetchError

DEBUG = "--debug"


def command_line() -> typer.Typer:
    """Make the command line with the verbs of producers and people."""
    app = typer.Typer(
        name="bgfetch",
        help="Background Fetch for servers: durable downloads on Redis and RQ.",
        epilog=EPILOG,
        rich_markup_mode=None,  # help without rich starts in half the time
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command()(fetch.fetch)
    app.command("list")(listed.list_)
    app.command()(show.get)
    app.command()(show.watch)
    app.command()(act.abort)
    app.command()(act.pause)
    app.command()(act.resume)
    app.command()(act.click)
    app.command()(ended.retry)
    app.command()(ended.forget)
    app.add_typer(dead.command_line(), name="dead")
    app.add_typer(subscribers.command_line(), name="subscribers")
    app.command()(subscribers.unsubscribe)
    app.command()(replay.replay)
    app.add_typer(scopes.command_line(), name="scope")
    app.command()(schema.schema)
    app.command()(sweep.sweep)
    app.command()(origins.origins)
    app.command()(doctor.doctor)
    app.command()(health.health)
    app.command()(rq_dashboard.rq_dashboard)
    app.command()(accounts.account)
    return app


def _print_version(value: bool) -> None:
    if value:
        put(
            f"bgfetch {_version('background-fetch')} "
            f"(Python {platform.python_version()}, redis-py {_version('redis')}, "
            f"RQ {_version('rq')})"
        )
        raise typer.Exit


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option(DEBUG, envvar="BGFETCH_DEBUG", help="show tracebacks")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="print the versions of this program and of what it stands on",
        ),
    ] = False,
) -> None:
    session_of(context).debug = debug


def run(app: typer.Typer, program: Sequence[str], arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Nothing but KeyboardInterrupt passes.

    ``program`` is the command that starts this program again, for its children.
    """
    session = Session(tuple(program), json="--json" in arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that has no such character
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(
            _debug_first(arguments) or ["--help"],
            prog_name="bgfetch",
            standalone_mode=False,
            obj=session,
        )
    except BackgroundFetchError as error:
        _tell(session, told(error), code_of(error), error.spec_name, error)
        return code_of(error)
    except (Interrupted, ChildEnded) as end:
        return end.code
    except typer.TyperException as error:
        line = f"{error.format_message()}{_hint(error)}"
        _tell(session, line, error.exit_code, "TypeError", error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        line = f"unexpected {type(error).__name__}: {error}; --debug shows where"
        _tell(session, line, ExitCode.NO, "AbortError", error)
        return ExitCode.NO
    return code if isinstance(code, int) else ExitCode.OK


def _debug_first(arguments: Sequence[str]) -> list[str]:
    """Let ``--debug`` stand anywhere, not before the verb alone."""
    rest = [argument for argument in arguments if argument != DEBUG]
    return [DEBUG, *rest] if len(rest) < len(arguments) else rest


def _hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""


def _tell(
    session: Session, line: str, code: int, name: str, error: BaseException
) -> None:
    if session.debug:
        traceback.print_exception(error)
    if session.json:
        kind = type(error).__name__
        sys.stderr.write(told_as_json(line, code, name=name, kind=kind) + "\n")
    else:
        say(" ".join(line.split()))
