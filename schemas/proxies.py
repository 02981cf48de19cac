"""The proxy that all transfers go through, as an operator names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from schemas.errors import ConfigError

SCHEMES = ("http", "https", "socks5h")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP or SOCKS proxy; its text does not show the password."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read the value of ``BGFETCH_PROXY``: ``SCHEME://[USER:PASSWORD@]HOST:PORT``.

        Raises:
            ConfigError: it is no such URL, or its scheme none of ``SCHEMES``.
        """
        try:
            parts = urlsplit(value.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            # Its text could show a part of a password that has a '#' or '/' in it.
            raise _unusable(value, "it is no URL") from None
        if parts.scheme not in SCHEMES:
            raise _unusable(value, f"its scheme is {parts.scheme!r}")
        if not host or not port or parts.path.strip("/") or parts.query:
            raise _unusable(value, "it must have a host and a port, and no path")
        username, password = (
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )
        return cls(parts.scheme, host, port, username, password)

    @property
    def url(self) -> str:
        """Where it is, without user name and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @override
    def __str__(self) -> str:
        return self.url.replace("://", "://***@") if self.username else self.url


def _unusable(value: str, reason: str) -> ConfigError:
    # A message goes into logs, and a password does not.
    _, at, host = value.rpartition("@")
    shown = f"…@{host}" if at else value
    return ConfigError(
        f"BGFETCH_PROXY: {shown[:200]!r} cannot be used: {reason}; give "
        "http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT"
    )
