"""Asking before something is lost for ever."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def make_sure(question: str) -> None:
    """Return once a person at the terminal has agreed.

    Raises:
        typer.BadParameter: there is no terminal to ask at.
        typer.Abort: the person did not agree.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: add --yes if you are sure")
    typer.confirm(question, abort=True, err=True)
