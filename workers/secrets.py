"""The secrets of this worker, which requests name and never hold.

They are files of one directory (``BGFETCH_SECRETS_DIR``), as container platforms mount
them: ``NAME`` holds the secret, and ``NAME.origins`` the origins that it may be sent
to, one a line, each with the scopes that may use it there, or none for all of them.
Producers choose URLs, so a secret that names no origin goes nowhere.
Files are read anew for each attempt: a secret that was changed is in force at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from schemas.errors import InvalidURL
from schemas.requests import Request
from schemas.secrets import filled
from schemas.urls import origin_of, parse_url
from workers.exchange import Fault, TransferError

MAX_BYTES = 16 * 1024
"""Of a secret, and of its list of origins."""
_SETTING = "BGFETCH_SECRETS_DIR"


class Secrets:
    """Puts secrets into the headers of requests, on the way to the origin alone."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def headers(self, request: Request, scope: str) -> tuple[tuple[str, str], ...]:
        """Return the request's headers with every reference replaced by its secret.

        Raises:
            TransferError: FORBIDDEN, a secret is not there, cannot be sent, or may not
                go to the request's origin for this scope; the secret itself is in
                no message.
        """
        if not request.headers:
            return ()
        secret_of = partial(self._secret, origin_of(request.url), scope)
        return tuple(
            (name, filled(value, secret_of)) for name, value in request.header_list
        )

    def _secret(self, origin: str, scope: str, name: str) -> str:
        if self._directory is None:
            raise _refused(name, f"is not here: this worker has no {_SETTING}")
        path = self._directory / name
        secret = _read(name, path).rstrip(b"\r\n")
        if not secret or any(byte in secret for byte in b"\r\n\0"):
            raise _refused(name, f"in {path} must be one line, and not empty")
        listed = path.with_name(f"{name}.origins")
        scopes = [each for known, each in _origins(name, listed) if known == origin]
        if not scopes:
            raise _refused(name, f"may not go to {origin}: {listed} does not name it")
        if not any(not each or scope in each for each in scopes):
            reason = f"may not go to {origin} for scope {scope!r}, by {listed}"
            raise _refused(name, reason)
        # As it is in the file, byte for byte: that is how a header is sent.
        return secret.decode("latin-1")


def _origins(name: str, path: Path) -> Iterable[tuple[str, list[str]]]:
    for line in _read(name, path).decode("utf-8", "replace").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        text, *scopes = words
        try:
            url = parse_url(text, None)
        except InvalidURL as error:
            raise _refused(name, f"has an unusable line in {path}: {error}") from error
        if url != origin_of(url) + "/":
            raise _refused(name, f"has a line in {path} that is no origin: {text!r}")
        yield origin_of(url), scopes


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = f"cannot be read from {path} ({_SETTING}): {error.strerror}"
        raise _refused(name, reason) from error
    if len(data) > MAX_BYTES:
        raise _refused(name, f"cannot be used: {path} has over {MAX_BYTES} bytes")
    return data


def _refused(name: str, reason: str) -> TransferError:
    return TransferError(Fault.FORBIDDEN, f"the secret {name!r} {reason}")
