"""What all messages share: frozen, camel case on the wire, unknown fields ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from schemas import codec
from schemas.errors import InvalidMessage, NewerMessage

VERSION = 1
"""The schema version that this release writes; it reads this one and the one before."""

FORM = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)
"""Names on the wire are in camel case; what is not known there is ignored."""
_T = TypeVar("_T")
Many = Annotated[tuple[_T, ...], FailFast()]
"""Values of one kind. The first wrong one is told, and not the million after it."""


class Message(BaseModel):
    """A value that crosses processes as a msgpack map with the IDL's names."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, **FORM)

    def encode(self) -> bytes:
        """Pack this message; fields at their defaults are left out."""
        return codec.encode(self.model_dump(mode="python", exclude_defaults=True))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Unpack a message of this class.

        Raises:
            InvalidMessage: the bytes are no such message.
        """
        return cls.from_plain(codec.decode(data))

    @classmethod
    def from_plain(cls, value: object) -> Self:
        """Validate unpacked data.

        Raises:
            InvalidMessage: a field is missing or has the wrong form, or the message is
                of a release that is too old.
            NewerMessage: it is of a later release, which others may run already.
        """
        return _validated(cls.__name__, cls.model_validate, value)


class CompactMessage:
    """The same for frozen dataclasses, several of which are made for every file.

    Making one validates nothing, unlike reading one: that is what comes from others.
    """

    __slots__ = ()
    __pydantic_config__ = FORM

    def encode(self) -> bytes:
        """Pack this message; fields at their defaults are left out."""
        return codec.encode(_plain(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Unpack a message of this class.

        Raises:
            InvalidMessage: the bytes are no such message.
        """
        return cls.from_plain(codec.decode(data))

    @classmethod
    def from_plain(cls, value: object) -> Self:
        """Validate unpacked data.

        Raises:
            InvalidMessage: as for a ``Message``.
            NewerMessage: likewise.
        """
        adapter: TypeAdapter[Self] = _adapter(cls)  # type: ignore[arg-type]
        return _validated(cls.__name__, adapter.validate_python, value)


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


@cache
def _members(cls: type[Any]) -> tuple[tuple[str, str, object], ...]:
    """Name, name on the wire and default of each field."""
    return tuple((each.name, to_camel(each.name), each.default) for each in fields(cls))


def _plain(message: CompactMessage) -> dict[str, object]:
    plain: dict[str, object] = {}
    kind: Any = type(message)
    for name, wire, default in _members(kind):
        value = getattr(message, name)
        if value != default:
            nested = isinstance(value, CompactMessage)
            plain[wire] = _plain(value) if nested else value
    return plain


def _validated(name: str, validate: Callable[[object], _T], value: object) -> _T:
    _check_version(name, value)
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidMessage(f"no {name}: {where}: {first['msg']}") from error


def _check_version(name: str, value: object) -> None:
    version = value.get("v", VERSION) if isinstance(value, dict) else VERSION
    if not isinstance(version, int):
        return  # for the model to refuse
    if version > VERSION:
        raise NewerMessage(f"{name} of version {version}, later than {VERSION}")
    if version < VERSION - 1:
        raise InvalidMessage(f"{name} of version {version}, before {VERSION - 1}")
