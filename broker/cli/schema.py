"""``bgfetch schema``: what the messages look like, for programs in any language."""

from __future__ import annotations

import json as json_
from typing import Annotated

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON
from broker.cli.output import put, put_json, table


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="one of those that are listed")
    ] = None,
    asyncapi: Annotated[
        bool,
        typer.Option(
            "--asyncapi", help="print the channels and streams as AsyncAPI 3.0 instead"
        ),
    ] = False,
    json: JSON = False,
) -> int:
    """Print the JSON Schema (2020-12) of a message; without NAME, list them.

    With --json and without NAME, print all of them in one object. Needs no Redis.
    """
    from schemas.catalogue import MESSAGES, schema_of

    if asyncapi:
        from broker.asyncapi import document

        if name is not None:
            raise typer.BadParameter(f"--asyncapi describes all; leave {name!r} out")
        _put_document(document(), compact=json)
    elif name is not None:
        if name not in MESSAGES:
            known = ", ".join(MESSAGES)
            raise typer.BadParameter(f"no message {name!r}: there are {known}")
        _put_document(schema_of(name), compact=json)
    elif json:
        put_json({each: schema_of(each) for each in MESSAGES})
    else:
        rows = [(each, _first_line(schema_of(each))) for each in MESSAGES]
        table(("name", "what it is"), rows)
    return ExitCode.OK


def _put_document(document: dict[str, object], *, compact: bool) -> None:
    if compact:
        put_json(document)
    else:
        for line in json_.dumps(document, indent=2, ensure_ascii=False).splitlines():
            put(line)


def _first_line(schema: dict[str, object]) -> str:
    return str(schema.get("description", "")).partition("\n")[0]
