"""``bgfetch account``: an entry for the gateway's file of accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.accounts import Account, Role, entry, new_token, password_proof, token_proof
from broker.cli.exits import ExitCode
from broker.cli.output import put, say
from schemas.errors import ConfigError


def account(
    name: Annotated[str, typer.Argument(metavar="NAME", help="who it is")],
    role: Annotated[
        list[Role],
        typer.Option(help="what it may do (repeatable); each one may look too"),
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            "-s",
            metavar="PATTERN",
            help="in which scopes, as 'news-*' (repeatable); default: in all",
            show_default=False,
        ),
    ] = None,
    password: Annotated[
        bool,
        typer.Option("--password", help="for a person: ask for a password"),
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="append the entry to this file; default: print it",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Make an account for the gateway.

    A program gets a token, which is shown once, on stderr: the file has what proves it.
    """
    token = None if password else new_token()
    proof = token_proof(token) if token else password_proof(_asked())
    made = entry(Account(name, frozenset(role), tuple(scope or ["*"]), proof))
    if file is None:
        put(made)
    else:
        _append(file, name, made)
    if token:
        say(f"the token of {name}, shown this once: {token}")
    return ExitCode.OK


def _asked() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _append(file: Path, name: str, made: str) -> None:
    from broker.accounts import Accounts

    try:
        if file.exists() and file.stat().st_size:
            if Accounts.load(file).named(name):
                raise ConfigError(f"{file} has an account {name!r} already")
            made = "\n" + made
        file.touch(mode=0o600)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(made + "\n")
    except OSError as error:
        raise ConfigError(f"accounts file {file}: {error}") from error
