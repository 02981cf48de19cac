"""The requests that ``bgfetch fetch`` makes of its words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.bodies import BodyStream
from schemas.errors import InvalidRequest, RejectedFetch
from schemas.requests import Request
from schemas.urls import check_address

if TYPE_CHECKING:
    from broker.settings import Settings


@dataclass(frozen=True, slots=True)
class Words:
    """What was typed about every request alike."""

    method: str | None
    """POST with ``data``, else GET, if None."""
    headers: Sequence[str]
    data: str | None
    """The body: a text, or a file's name after ``@``."""

    def request(self, url: str) -> Request:
        """Make one request.

        Raises:
            InvalidRequest: it cannot be made so, or the file cannot be read.
        """
        body = None if self.data is None else _body(self.data)
        method = self.method or ("GET" if body is None else "POST")
        headers = [_header(each) for each in self.headers]
        return Request(url, method=method, headers=headers, body=body)


def requests_of(
    urls: Iterable[str], words: Words, settings: Settings
) -> Iterable[Request]:
    """Make and check the requests, before a server is looked for or even started."""
    # A missing scheme is a slip here: only a base that somebody chose resolves it.
    base = settings.base_url if "base_url" in settings.model_fields_set else None
    count = 0
    for url in _expanded(urls):
        request = words.request(url).resolve(base)
        check_address(request.url, settings.allow_networks)
        count += 1
        yield request
    if not count:
        raise RejectedFetch("at least one request must be given, got none: add a URL")


def fingerprint(request: Request) -> bytes:
    """Return bytes that the same request gives every time, until its file changes."""
    if not isinstance(request.body, BodyStream):
        return request.encode()
    path = request.body.take()
    assert isinstance(path, Path)
    found = path.stat()
    mark = f"{path.absolute()} {found.st_size} {found.st_mtime_ns}"
    return replace(request, body=None).encode() + os.fsencode(mark)


def _expanded(urls: Iterable[str]) -> Iterable[str]:
    for url in urls:
        if url == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield url


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise InvalidRequest(f"a header is written 'Name: value', got {text!r}")
    return name.strip(), value.strip()


def _body(text: str) -> str | Path:
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    if not path.is_file() or not os.access(path, os.R_OK):
        raise InvalidRequest(
            f"--data {text!r}: no file {os.fspath(path)!r} that can be read"
        )
    return path
