"""``multipart/form-data``, part after part, as it arrives (RFC 7578).

Nothing is kept: who wants the next part gives up what is left of the present one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from broker.gateway.refusals import WrongForm

_DATA, _PART, _END = range(3)


class Part:
    """One part of a form: its name, and its bytes."""

    def __init__(self, form: Multipart, name: str) -> None:
        self.name = name
        self._form = form

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._form.chunk()) is not None:
            yield chunk


class Multipart:
    """The parts of one form."""

    def __init__(self, boundary: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._found: deque[tuple[int, bytes]] = deque()
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._inside = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise WrongForm(f"no multipart/form-data: {error}") from error

    @classmethod
    def of(cls, content_type: str, chunks: AsyncIterator[bytes]) -> Self:
        """Read ``chunks`` with the boundary that the header names.

        Raises:
            WrongForm: there is none.
        """
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise WrongForm(f"Content-Type: {content_type!r} lacks a boundary")
        return cls(boundary, chunks)

    async def next(self) -> Part | None:
        """Return the next part, or None behind the last one.

        Raises:
            WrongForm: the bytes are no form.
        """
        while self._inside:
            await self.chunk()
        found = await self._event()
        if found is None:
            return None
        self._inside = True
        return Part(self, _name_of(found[1]))

    async def chunk(self) -> bytes | None:
        """Return bytes of the present part, or None at its end.

        Raises:
            WrongForm: the form ends before its part does.
        """
        if not self._inside:
            return None
        found = await self._event()
        if found is None:
            raise WrongForm("the form ends in the middle of a part")
        kind, data = found
        if kind == _DATA:
            return data
        self._inside = False
        return None

    async def _event(self) -> tuple[int, bytes] | None:
        while not self._found:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise WrongForm(f"no multipart/form-data: {error}") from error
        return self._found.popleft()

    def _on_begin(self) -> None:
        self._disposition = b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        self._found.append((_PART, self._disposition))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._found.append((_DATA, data[start:end]))

    def _on_end(self) -> None:
        self._found.append((_END, b""))


def _name_of(disposition: bytes) -> str:
    name = parse_options_header(disposition)[1].get(b"name", b"")
    return name.decode("utf-8", "replace")
