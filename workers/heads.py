"""Heads of requests, written, and of responses, read strictly.

What is ambiguous in a response head is refused, not guessed at:
libcurl lets control characters, any status up to 999 and an overflowing Content-Length
pass, and two readers of such a head could disagree about where the body ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from schemas.records import ResponseHead
from workers.exchange import Fault, TransferError

_TEXT = r"[^\x00-\x08\x0a-\x1f\x7f]"
_STATUS = re.compile(rf"HTTP/[0-9.]+ ([0-9]{{3}})(?: ({_TEXT}*))?\r?\n")
# RFC 9112 § 5: a token, a colon at once, and text without control characters.
_FIELD = re.compile(
    rf"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:{_TEXT}*(?![ \t]){_TEXT})?)[ \t]*\r?$",
    re.MULTILINE,
)
_SIZES = (len("content-length"), len("transfer-encoding"))
_LENGTH = re.compile(r"[0-9]{1,19}", re.ASCII)
_BREAK = re.compile(rb"[\r\n\0]")
_MAX_LENGTH = 2**63 - 1
_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True)
class Received:
    """A final response head, and how its body is delimited."""

    head: ResponseHead
    length: int | None
    """Bytes of the body that must come, or None if the framing tells the end."""
    ambiguous: bool
    """Both Content-Length and chunked: the connection must not be used again."""


def read_head(lines: Sequence[bytes], *, method: str, url: str) -> Received | None:
    """Read the lines of one header block; None for an informational one.

    Raises:
        TransferError: MALFORMED, the head breaks RFC 9110 or 9112 or is ambiguous.
    """
    text = b"".join(lines).decode("latin-1")
    status_line = _STATUS.match(text)
    # As many fields as lines, each from the start of a line to its end: all are good.
    fields = tuple(_FIELD.findall(text, status_line.end())) if status_line else ()
    if status_line is None or len(fields) != len(lines) - 1:
        raise _malformed(f"the response head is not HTTP: {_excerpt(text)}")
    status = int(status_line[1])
    if 100 <= status <= 199 and status != 101:
        return None
    if not 200 <= status <= 599:
        raise _malformed(f"status {status} is not one of 200 to 599")
    length, ambiguous = _framing(fields)
    if method == "HEAD" or status in _BODILESS:
        length = 0
    head = ResponseHead(
        status=status,
        status_text=(status_line[2] or "").strip(),
        headers=fields,
        url=url.partition("#")[0],
    )
    return Received(head, length, ambiguous)


def request_lines(headers: Sequence[tuple[str, str]]) -> list[bytes]:
    """Write request headers as libcurl takes them, with ours where they are missing.

    Ours are ``User-Agent`` and ``Accept-Encoding: identity``.

    Raises:
        TransferError: MALFORMED, a header cannot be sent.
    """
    named = {name.lower() for name, _ in headers}
    # A header without a value ends in a semicolon; one with a bare colon is left out.
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers]
    if "user-agent" not in named:
        lines.append(f"User-Agent: {_user_agent()}")
    if "accept-encoding" not in named:
        lines.append("Accept-Encoding: identity")
    try:
        encoded = [line.encode("latin-1") for line in lines]
    except UnicodeEncodeError as error:
        raise _malformed(f"a header of the request cannot be sent: {error}") from error
    if any(_BREAK.search(line) for line in encoded):
        raise _malformed("a header of the request has a line break")
    return encoded


@cache
def _user_agent() -> str:
    try:
        return f"Background-Fetch/{version('background-fetch')}"
    except PackageNotFoundError:
        return "Background-Fetch/0"


def _framing(fields: Sequence[tuple[str, str]]) -> tuple[int | None, bool]:
    lengths: list[str] = []
    codings: list[str] = []
    for name, value in [row for row in fields if len(row[0]) in _SIZES]:
        match name.lower():
            case "content-length":
                lengths += [part.strip() for part in value.split(",")]
            case "transfer-encoding":
                codings.append(value.lower())
    if codings and codings != ["chunked"] and codings != ["identity"]:
        raise _malformed(f"unknown Transfer-Encoding {', '.join(codings)!r}")
    if not lengths:
        return None, False
    if len(set(lengths)) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise _malformed(f"no usable Content-Length: {', '.join(lengths)[:60]!r}")
    length = int(lengths[0])
    if length > _MAX_LENGTH:
        raise _malformed(f"no usable Content-Length: {length}")
    return (None, True) if codings == ["chunked"] else (length, False)


def _excerpt(text: str) -> str:
    """Show the first line that is wrong."""
    for number, row in enumerate(text.removesuffix("\n").split("\n")):
        if not (_FIELD if number else _STATUS).fullmatch(row if number else row + "\n"):
            return repr(row[:60])
    return repr(text[:60])


def _malformed(detail: str) -> TransferError:
    return TransferError(Fault.MALFORMED, detail)
