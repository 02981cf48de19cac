"""Every message that crosses processes, as JSON Schema 2020-12.

The schemas come from the models that read the messages, with the IDL's names. On the
wire a message is a msgpack map whose defaults are left out; bytes, which JSON does not
have, are described as base64. Readers ignore fields that they do not know.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, WithJsonSchema
from pydantic.alias_generators import to_camel

from schemas import bodies, events, fetches, options, policies, records
from schemas.bodies import StoredBody
from schemas.fetches import Priority
from schemas.messages import VERSION, Many, Message
from schemas.requests import Credentials, Mode, Redirect

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
_Base64 = Annotated[
    bytes, WithJsonSchema({"type": "string", "contentEncoding": "base64"})
]


class RequestMessage(Message):
    """A ``Request`` as it is stored, its URL resolved."""

    url: str
    method: str = "GET"
    headers: Many[tuple[str, str]] = ()
    body: _Base64 | StoredBody | None = None
    """Up to 64 KiB travel with the request, more is in the blob store."""
    mode: Mode = "cors"
    credentials: Credentials = "same-origin"
    redirect: Redirect = "follow"
    referrer: str = "about:client"
    referrer_policy: str = ""
    integrity: str = ""
    priority: Priority = Priority.AUTO


Settlement = Annotated[
    dict[str, events.DeliveryOutcome],
    WithJsonSchema(
        {
            "description": "What became of an event at each subscriber, by its name.",
            "type": "object",
            "additionalProperties": {
                "enum": [str(outcome) for outcome in events.DeliveryOutcome]
            },
        }
    ),
]

MESSAGES: Mapping[str, Any] = {
    "dead-letter": events.DeadLetter,
    "event": events.EventMessage,
    "options": options.FetchOptions,
    "policy": policies.ScopePolicy,
    "record": records.RecordState,
    "registration": fetches.FetchState,
    "request": RequestMessage,
    "settlement": Settlement,
    "window": events.WindowMessage,
}
"""The model of each message, by the name that a person gives."""

_CLASSES = {
    each.__name__: each
    for module in (bodies, events, fetches, options, policies, records)
    for each in vars(module).values()
    if isinstance(each, type)
} | {"RequestMessage": RequestMessage}


def schema_of(name: str) -> Schema:
    """Return the schema of one message, whole by itself.

    Raises:
        KeyError: there is no such message.
    """
    references, definitions = schemas_of([name], "#/$defs/{model}")
    own = definitions.pop(references[name].get("$ref", "").rpartition("/")[2], None)
    schema = {"$schema": DIALECT, "$id": f"urn:bgfetch:{name}:{VERSION}"}
    schema |= references[name] if own is None else own
    return schema | ({"$defs": definitions} if definitions else {})


def schemas_of(
    names: Iterable[str], template: str
) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Return what refers to each message, and the definitions of all together.

    ``template`` says where a definition, ``{model}``, is going to be.
    """
    found, together = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(MESSAGES[name])) for name in names],
        ref_template=template,
    )
    definitions: dict[str, Schema] = together.get("$defs", {})
    for title, schema in definitions.items():
        if title in _CLASSES and "properties" in schema:
            _describe(_CLASSES[title], schema["properties"])
    return {str(name): schema for (name, _), schema in found.items()}, definitions


def _describe(cls: type, properties: dict[str, Schema]) -> None:
    """Add readable titles, and what stands below the fields in the source."""
    try:
        [written] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except OSError:  # installed without its source
        return
    assert isinstance(written, ast.ClassDef)
    for field, text in zip(written.body, [*written.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(
            field.target, ast.Name
        ):
            continue
        schema = properties.get(to_camel(field.target.id), {})
        schema["title"] = field.target.id.replace("_", " ").capitalize()
        match text:
            case ast.Expr(value=ast.Constant(value=str(told))):
                schema["description"] = inspect.cleandoc(told)
