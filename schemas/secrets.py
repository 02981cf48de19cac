"""Secrets of requests: named in header values, hidden where headers are shown.

A header value may name a secret of the workers instead of holding one: in
``Authorization: Bearer secret:github`` the word ``secret:github`` stands for the secret
``github``. A reference is a whole word, between spaces or the ends of the value. A word
that begins with ``secret::`` is no reference; it is sent with one colon less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote_plus

from schemas.errors import InvalidRequest

Pairs = Iterable[tuple[str, str]]

MASK = "***"
_MARK = "secret:"
_WORD = re.compile(r"(?<![^ \t])secret:([^ \t]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_ENDINGS = (
    "authorization",
    "cookie",
    "cookie2",
    "-key",
    "apikey",
    "token",
    "secret",
    "password",
)
_PARAMETERS = (
    "signature",
    "sig",
    "token",
    "jwt",
    "key",
    "secret",
    "password",
    "passwd",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "session",
    "policy",
)
_HARMLESS = frozenset({"idempotency-key", "sec-websocket-key"})


def is_secret_header(name: str) -> bool:
    """Whether a request header of this name proves who one is, whatever its value."""
    lower = name.lower()
    return lower.endswith(_ENDINGS) and lower not in _HARMLESS


def shown_headers(headers: Pairs) -> tuple[tuple[str, str], ...]:
    """Return the headers as logs and people may see them: secret values masked."""
    return tuple(
        (name, MASK if is_secret_header(name) else value) for name, value in headers
    )


def shown_url(url: str) -> str:
    """Return a URL as people may see it: what its query proves is masked.

    Signed URLs are the right to what they name, for whoever reads them.
    """
    head, mark, query = url.partition("?")
    if not mark:
        return url
    query, hash, fragment = query.partition("#")
    parts = (_shown_parameter(part) for part in query.split("&"))
    return head + mark + "&".join(parts) + hash + fragment


def _shown_parameter(part: str) -> str:
    name, _, value = part.partition("=")
    plain = unquote_plus(name).lower()
    return f"{name}={MASK}" if value and plain.endswith(_PARAMETERS) else part


def check_references(name: str, value: str) -> None:
    """Refuse a header value with a malformed reference.

    Raises:
        InvalidRequest: what follows ``secret:`` is no name of a secret.
    """
    for match in _WORD.finditer(value) if _MARK in value else ():
        if not match[1].startswith(":") and not _NAME.fullmatch(match[1]):
            raise InvalidRequest(
                f"the header {name!r} has {match[0]!r}, which names no secret: a name "
                "has letters, digits, '-' and '_', at most 64 of them; text of one's "
                "own that begins so is written with 'secret::'"
            )


def referring(headers: Pairs) -> frozenset[str]:
    """Return the names of the headers whose values refer to a secret."""
    return frozenset(
        name
        for name, value in headers
        if any(not match[1].startswith(":") for match in _WORD.finditer(value))
    )


def filled(value: str, secret_of: Callable[[str], str]) -> str:
    """Return ``value`` as it is sent, each reference replaced by its secret."""
    if _MARK not in value:
        return value

    def word(match: re.Match[str]) -> str:
        name = match[1]
        return _MARK + name[1:] if name.startswith(":") else secret_of(name)

    return _WORD.sub(word, value)
