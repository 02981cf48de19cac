"""The forms of names: scopes, subscribers, their steps and the caller's fetch ids."""

from __future__ import annotations

import re
import secrets

from schemas.errors import InvalidName

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_UID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CLIENT = re.compile(r"[0-9a-f]{12}\.[0-9a-f]{16}", re.ASCII)
_MAX_SHOWN = 100  # characters of what is wrong
MAX_ID_BYTES = 1024
RESERVED = frozenset(
    {
        "aborts",
        "agenda",
        "audit",
        "cleared",
        "fetches",
        "identity",
        "leaving",
        "presence",
        "processes",
        "origin-news",
        "origins",
        "pulled",
        "reclaim",
        "removed",
        "removing",
        "scopes",
        "stores",
    }
)
"""Names that no scope may have: their Redis keys are everybody's."""
OWN = "bgfetch."
"""What the names of scopes begin with in which the service fetches for itself."""


def is_reserved(scope: str) -> bool:
    """Whether no user's scope may have this name."""
    return scope in RESERVED or scope.startswith(OWN)


def check_scope(scope: str) -> str:
    """Return ``scope`` if it has the form of a scope name.

    Raises:
        InvalidName: it is not 1 to 64 letters, digits, dots, dashes or underscores,
            or is reserved.
    """
    if isinstance(scope, str) and is_reserved(scope):
        what = f"names in {OWN!r} are" if scope.startswith(OWN) else "this word is"
        raise InvalidName(f"{scope!r:.80} is no scope name: {what} reserved")
    return _check("scope", scope)


def check_subscriber(name: str) -> str:
    """Return ``name`` if it has the form of a subscriber name.

    Raises:
        InvalidName: it is not 1 to 64 letters, digits, dots, dashes or underscores.
    """
    return _check("subscriber", name)


def check_client(client: str) -> str:
    """Return ``client`` if a gateway may have given it to a reader, or if it is empty.

    Raises:
        InvalidName: it has another form.
    """
    if client and not _CLIENT.fullmatch(client):
        raise InvalidName(
            f"{client[:_MAX_SHOWN]!r} is no client id: use that of the stream's first "
            "message"
        )
    return client


def check_step(step: str) -> str:
    """Return ``step`` if it has the form of a name for a step of a handler.

    Raises:
        InvalidName: it is not 1 to 64 letters, digits, dots, dashes or underscores.
    """
    return _check("step", step)


def check_id(id: str) -> str:
    """Return ``id`` if a background fetch may have it: 1 to 1,024 bytes of UTF-8.

    Ids are compared as they are, without trimming or folding (BF-STATE-07).

    Raises:
        InvalidName: it is empty, too long, or no text.
    """
    if not isinstance(id, str) or not id:
        raise InvalidName(f"a fetch id must be a non-empty string, got {id!r}")
    try:
        size = len(id.encode())
    except UnicodeEncodeError as error:
        raise InvalidName(f"a fetch id must be valid UTF-8, got {id!r}") from error
    if size > MAX_ID_BYTES:
        raise InvalidName(
            f"a fetch id has at most {MAX_ID_BYTES} bytes, got {size}: {id[:40]!r}…"
        )
    return id


def new_uid() -> str:
    """Draw the name that one background fetch keeps for ever: 32 hex digits."""
    return secrets.token_hex(16)


def check_uid(text: str) -> str:
    """Return ``text`` if it has the form of a uid.

    Raises:
        InvalidName: it is not 32 hexadecimal digits in lower case.
    """
    if not isinstance(text, str) or not is_uid(text):
        raise InvalidName(f"a token is 32 digits of 0-9 and a-f, got {text!r}")
    return text


def is_uid(text: str) -> bool:
    """Whether ``text`` has the form of a uid: as a part of a key it names no other."""
    return bool(_UID.fullmatch(text))


def _check(kind: str, value: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        shown = repr(value)
        if len(shown) > _MAX_SHOWN:
            shown = f"{shown[:_MAX_SHOWN]}…"
        raise InvalidName(
            f"{shown} is no {kind} name: use 1 to 64 letters, digits, '.', '_' "
            "or '-', starting with a letter or digit"
        )
    return value
