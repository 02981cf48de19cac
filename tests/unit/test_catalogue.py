"""Schemas of the messages: whole, described, and those of the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator, meta

from broker import keys
from broker.asyncapi import document
from broker.cli.app import command_line, run
from schemas import requests
from schemas.catalogue import MESSAGES, RequestMessage, schema_of
from schemas.events import EventMessage, WindowMessage
from schemas.fetches import FetchState
from schemas.messages import Message
from tests.integration.commands import Bgfetch


def every(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, itself included."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield from every(each)


def at(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


@pytest.mark.parametrize("name", MESSAGES)
def test_each_schema_is_valid_whole_and_described(name: str) -> None:
    schema = schema_of(name)

    meta.validate(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    for each in every(schema):
        if "$ref" in each:
            assert at(schema, each["$ref"])
    for each in (schema, *schema.get("$defs", {}).values()):
        assert each["description"]
        for wire, field in each.get("properties", {}).items():
            assert field["title"], wire
            assert "_" not in wire


def test_the_request_is_described_as_it_is_written() -> None:
    """Its members and defaults stand in one table, which writes and reads them."""
    wire = {name: default for _, name, default in requests.WIRE}
    fields = RequestMessage.model_fields.values()

    described = {field.alias: field.default for field in fields}

    assert described.pop("url").__class__.__name__ == "PydanticUndefinedType"
    assert described == wire


def test_the_channels_are_those_of_the_keys() -> None:
    """AsyncAPI 3.0: what the document needs, and that it refers to what is there."""
    described = document()
    scope = keys.ScopeKeys("{scope}")

    addresses = [each["address"] for each in described["channels"].values()]
    assert addresses == [
        scope.events,
        scope.events,
        scope.progress,
        scope.clients,
        keys.ABORTS,
        keys.ORIGIN_NEWS,
    ]
    assert described["asyncapi"] == "3.0.0"
    assert set(described["info"]) >= {"title", "version"}
    for each in every(described):
        if "$ref" in each:
            assert at(described, each["$ref"])
    for operation in described["operations"].values():
        assert operation["action"] in ("send", "receive")
    for channel in described["channels"].values():
        assert set(channel.get("parameters", {})) == (
            {"scope"} if "{scope}" in channel["address"] else set()
        )


@pytest.mark.parametrize(
    ("name", "model"),
    [("event", EventMessage), ("registration", FetchState), ("window", WindowMessage)],
)
def test_the_examples_of_the_document_decode(name: str, model: type[Message]) -> None:
    message = document()["components"]["messages"][name]
    validator = Draft202012Validator(schema_of(name))

    for example in message["examples"]:
        validator.validate(example["payload"])
        read = model.from_plain(example["payload"])
        assert model.decode(read.encode()) == read


@pytest.fixture
def bgfetch(capsys: pytest.CaptureFixture[str]) -> Bgfetch:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(command_line(), ["never", "started"], arguments)
        return (code, *capsys.readouterr())

    return call


def test_the_command_prints_what_is_asked_for(bgfetch: Bgfetch) -> None:
    listed = bgfetch("schema")[1].splitlines()

    assert [line.split("\t")[0] for line in listed] == list(MESSAGES)
    assert json.loads(bgfetch("schema", "event")[1]) == schema_of("event")
    assert set(json.loads(bgfetch("schema", "--json")[1])) == set(MESSAGES)
    assert json.loads(bgfetch("schema", "--asyncapi")[1]) == document()
    code, _, told = bgfetch("schema", "events")
    assert code == 2
    assert "no message 'events': there are dead-letter, event, " in told
