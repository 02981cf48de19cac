"""What all messages share: frozen, camel case on the wire, unknown fields ignored."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from schemas import codec
from schemas.errors import InvalidMessage, NewerMessage

VERSION = 1
"""The schema version that this release writes; it reads this one and the one before."""


class Message(BaseModel):
    """A value that crosses processes as a msgpack map with the IDL's names."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
    )

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
        _check_version(cls.__name__, value)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidMessage(
                f"no {cls.__name__}: {where}: {first['msg']}"
            ) from error


def _check_version(name: str, value: object) -> None:
    version = value.get("v", VERSION) if isinstance(value, dict) else VERSION
    if not isinstance(version, int):
        return  # for the model to refuse
    if version > VERSION:
        raise NewerMessage(f"{name} of version {version}, later than {VERSION}")
    if version < VERSION - 1:
        raise InvalidMessage(f"{name} of version {version}, before {VERSION - 1}")
