"""Objects of a bucket below a prefix, over obstore: the only module that knows it.

Credentials come from where each provider's own tools look for them in the environment.
obstore repeats what can be repeated: broken connections, timeouts and answers of 5xx.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from schemas.errors import ConfigError, StorageError

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError
    from obstore.store import from_url
except ImportError as error:
    raise ConfigError(
        "object stores need obstore: pip install 'background-fetch[object-store]'"
    ) from error

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES = ("s3", "gs", "az")
_SECRET = re.compile("key|secret|token|password|sas", re.IGNORECASE)
_FULL = ("QuotaExceeded", "StorageFull", "InsufficientStorage", " 507 ")
"""Words with which servers say that there is no room."""
_DELETED_TOGETHER = 1000
PATIENT = 20
"""Repetitions of a request, a minute at most: a server may be restarting."""
QUICK = 3
"""The same where somebody waits to hear that there is no server."""
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5)}


class Listed(NamedTuple):
    """An object in a listing."""

    path: str
    size: int
    written: float
    """Seconds since the epoch, by the server's clock."""


class Bucket:
    """Objects, by their path below the prefix. Calls block until they are answered.

    Every call raises StorageError when the server refuses, or cannot be reached; the
    message says why.
    """

    def __init__(self, url: str, *, retries: int = PATIENT) -> None:
        """``url`` is ``s3://``, ``gs://`` or ``az://`` with bucket and prefix.

        ``?endpoint=…&region=…`` and more may follow: options as obstore has them.

        Raises:
            ConfigError: it is none of these, or an option is unknown or a secret.
        """
        parts = urlsplit(url)
        self.place = urlunsplit(parts._replace(query="", fragment=""))
        options: Any = dict(parse_qsl(parts.query))  # checked where they are used
        if parts.scheme not in SCHEMES or not parts.netloc or "@" in parts.netloc:
            raise ConfigError(
                f"BGFETCH_STORE={self.place!r}: use a directory, or "
                "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
            )
        if any(_SECRET.search(name) for name in options):
            raise ConfigError(
                f"BGFETCH_STORE={self.place}?…: credentials belong in the provider's "
                "own environment variables, such as AWS_SECRET_ACCESS_KEY"
            )
        client = _CLIENT.copy()
        if options.get("endpoint", "").startswith("http://"):
            client["allow_http"] = True
        retry: RetryConfig = {
            "max_retries": retries,
            "retry_timeout": timedelta(minutes=1),
        }
        try:
            self._store = from_url(
                self.place, config=options, client_options=client, retry_config=retry
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(f"BGFETCH_STORE={url!r}: {_first_line(error)}") from error

    def put(self, path: str, data: bytes | list[bytes]) -> None:
        """Write one object, whole or not at all; one that is there is replaced."""
        with self._told():
            obstore.put(self._store, path, data, use_multipart=False)

    def create(self, path: str, data: bytes) -> bool:
        """Write one object unless it is there: then return False."""
        try:
            with self._told():
                obstore.put(self._store, path, data, mode="create")
        except StorageError as error:
            if isinstance(error.__cause__, AlreadyExistsError):
                return False
            raise
        return True

    def get(self, path: str) -> bytes | None:
        """Return a small object, or None if there is none."""
        with self._told(missing_is_none=True):
            return bytes(obstore.get(self._store, path).bytes())
        return None

    def read(self, path: str, start: int, length: int) -> bytes:
        """Return bytes of one object; fewer only at its end."""
        with self._told():
            found = obstore.get_range(self._store, path, start=start, length=length)
            return bytes(found)

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below ``prefix/``, in the order of their names."""
        with self._told():
            for found in obstore.list(self._store, prefix):
                for each in found:
                    written = each["last_modified"].timestamp()
                    yield Listed(each["path"], each["size"], written)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        left = list(paths)
        for at in range(0, len(left), _DELETED_TOGETHER):
            some = left[at : at + _DELETED_TOGETHER]
            try:
                with self._told():
                    obstore.delete(self._store, some)
            except StorageError as error:
                # Not every provider says which one of many is gone.
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                for path in some:
                    with self._told(missing_is_none=True):
                        obstore.delete(self._store, path)

    @contextmanager
    def _told(self, *, missing_is_none: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not missing_is_none or "NoSuchBucket" in str(error):
                raise self._refusal(error) from error
        except (BaseError, OSError, ValueError) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> StorageError:
        told = f"{self.place}: {_first_line(error)}"
        if any(word in told for word in _FULL):
            told = f"EDQUOT: {told}"
        return StorageError(told)


def _first_line(error: Exception) -> str:
    """What a server said, in one line; its XML reduced to the words for people."""
    told = str(error).partition("\n\nDebug source")[0]
    code, message = (
        re.search(f"<{name}>(.*?)</{name}>", told, re.DOTALL)
        for name in ("Code", "Message")
    )
    if code is not None:
        told = (
            told.partition("<?xml")[0]
            + code[1]
            + (f": {message[1]}" if message else "")
        )
    return " ".join(told.split())[:500]
