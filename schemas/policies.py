"""What a scope lets its fetches do: whether at all, which origins, how many bytes.

An operator's rules on top of the address policy. A fetch keeps the policy that stood
when it was registered: a later change neither breaks nor widens it (BF-SEC-09).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

from typing_extensions import override

from schemas.errors import (
    InvalidMessage,
    InvalidOptions,
    InvalidURL,
    NoActiveWorker,
    NotAllowed,
    QuotaExceeded,
)
from schemas.messages import Many, Message
from schemas.urls import host_of, origin_of, parse_url
from schemas.windows import Window

_PATTERN = re.compile(
    r"(?:(https?)://)?(\*\.)?([^\s/?#@:*\[\]]+|\[[0-9a-f:.]+\])(?::(\d{1,5}|\*))?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class OriginPattern:
    """Origins by scheme, host and port, each empty where any will do.

    A host that begins with ``*.`` stands for all hosts below it, not for itself.
    """

    scheme: str
    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``https://cdn.example``, ``*.example.com``, ``localhost:8080``.

        With a scheme it is an origin: a port that is left out is the scheme's own, and
        ``:*`` is any. Without a scheme both schemes, and every port unless one is
        given, are meant.

        Raises:
            InvalidURL: it is no such pattern.
        """
        match = _PATTERN.fullmatch(text.strip().removesuffix("/"))
        if match is None:
            raise _no_pattern(text)
        scheme, below, host, port = (part or "" for part in match.groups())
        scheme = scheme.lower()
        try:
            url = parse_url(f"https://{host}/", None)
        except InvalidURL as error:
            raise _no_pattern(text) from error
        port = port or _DEFAULT_PORTS.get(scheme, "")
        port = "" if port == "*" else str(int(port)) if port else ""
        return cls(scheme, below + host_of(url).rstrip("."), port)

    def matches(self, url: str) -> bool:
        """Whether the origin of a serialised URL is one of these."""
        scheme, host = url.partition(":")[0], host_of(url)
        port = origin_of(url).removeprefix(f"{scheme}://{host}").removeprefix(":")
        host = host.rstrip(".")
        if self.host.startswith("*."):
            known = host.endswith(self.host[1:])
        else:
            known = host == self.host
        return (
            known
            and self.scheme in ("", scheme)
            and self.port in ("", port or _DEFAULT_PORTS[scheme])
        )

    @override
    def __str__(self) -> str:
        if not self.scheme:
            return f"{self.host}:{self.port}" if self.port else self.host
        origin = f"{self.scheme}://{self.host}"
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return origin
        return f"{origin}:{self.port or '*'}"


class Permission(StrEnum):
    """The state of the powerful feature ``background-fetch`` (BF-FETCH-11)."""

    GRANTED = "granted"
    DENIED = "denied"
    """``fetch()`` raises ``NotAllowed``."""
    PROMPT = "prompt"
    """A fetch starts paused until ``resume()`` approves it, or ``abort()`` does not."""


class ScopePolicy(Message):
    """The rules of one scope; those by default allow everything."""

    permission: Permission = Permission.GRANTED
    require_active_worker: bool = False
    """Whether ``fetch()`` fails while the scope has no subscriber."""
    https_only: bool = False
    allow: Many[str] = ()
    """Patterns of origins; where there are any, no other origin is reached."""
    deny: Many[str] = ()
    """Patterns of origins that are not reached, allowed or not."""
    max_bytes: int = 0
    """What the responses of one fetch may store, and its bodies; 0 is no limit."""
    quota: int = 0
    """What all fetches of the scope may store at a time, requests too; 0: no limit."""
    window: str = ""
    """Hours of the day, by UTC, in which fetches may transfer; empty: all."""

    @classmethod
    def checked(
        cls,
        *,
        permission: str = Permission.GRANTED,
        require_active_worker: bool = False,
        https_only: bool = False,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        max_bytes: int = 0,
        quota: int = 0,
        window: str = "",
    ) -> Self:
        """Make a policy of what a person wrote.

        Raises:
            InvalidURL: a pattern cannot be used.
            InvalidOptions: a size is out of range, ``permission`` unknown, or
                ``window`` none.
        """
        known = [str(each) for each in Permission]
        if permission not in known:
            told = ", ".join(known)
            raise InvalidOptions(f"permission is one of {told}, got {permission!r}")
        for name, size in (("max_bytes", max_bytes), ("quota", quota)):
            if not 0 <= size < 2**53:
                raise InvalidOptions(f"{name} must be in 0 … 2**53-1, got {size}")
        return cls(
            permission=Permission(permission),
            require_active_worker=require_active_worker,
            https_only=https_only,
            allow=tuple(str(OriginPattern.parse(text)) for text in allow),
            deny=tuple(str(OriginPattern.parse(text)) for text in deny),
            max_bytes=max_bytes,
            quota=quota,
            window=str(Window.parse(window)) if window else "",
        )

    @classmethod
    def read(cls, text: bytes | None) -> Self:
        """Read what ``text`` returned; nothing stands for no rules.

        Raises:
            InvalidMessage: it is no policy.
        """
        try:
            return cls.from_plain(json.loads(text)) if text else cls()
        except ValueError as error:
            raise InvalidMessage(f"no ScopePolicy: {error}") from error

    @property
    def hours(self) -> Window | None:
        """The window, if there is one."""
        return Window.parse(self.window) if self.window else None

    @property
    def text(self) -> str:
        """This policy as readable text, empty where there are no rules."""
        return "" if self == type(self)() else self.model_dump_json()

    def refusal(self, url: str) -> str | None:
        """Return why the origin of a serialised URL is not to be reached, or None."""
        if self.https_only and not url.startswith("https:"):
            return self._refused(url, "it is not https")
        for text in self.deny:
            if _pattern(text).matches(url):
                return self._refused(url, f"{text!r} is denied")
        if self.allow and not any(_pattern(text).matches(url) for text in self.allow):
            return self._refused(url, f"only {', '.join(self.allow)} is allowed")
        return None

    def _refused(self, url: str, reason: str) -> str:
        return f"{origin_of(url)} is refused by the policy of the scope: {reason}"

    def check_permission(self, *, active_worker: bool) -> None:
        """Refuse any fetch, for want of permission or, if required, of a subscriber.

        Raises:
            NotAllowed: the permission is denied. This comes before all that depends on
                the state of the scope (BF-FETCH-10).
            NoActiveWorker: a subscriber is required, and there is none.
        """
        if self.permission is Permission.DENIED:
            raise NotAllowed(
                "the permission 'background-fetch' of the scope is denied; "
                "see `bgfetch scope show`"
            )
        if self.require_active_worker and not active_worker:
            raise NoActiveWorker(
                "nobody subscribes to the scope, and its rules require somebody: "
                "start `bgfetch subscribe`"
            )

    def check(self, urls: Iterable[str], download_total: int) -> None:
        """Refuse a fetch that breaks these rules as it is asked for.

        Raises:
            InvalidURL: one of the serialised URLs is of an origin that is refused.
            QuotaExceeded: ``download_total`` announces more bytes than are allowed
                (BF-FETCH-17).
        """
        for url in urls:
            reason = self.refusal(url)
            if reason is not None:
                raise InvalidURL(f"{reason}; see `bgfetch scope show`")
        if self.max_bytes and download_total > self.max_bytes:
            raise QuotaExceeded(
                f"download_total is {download_total}, and the policy of the scope "
                f"allows {self.max_bytes} bytes; see `bgfetch scope show`"
            )

    def check_upload(self, size: int) -> None:
        """Refuse request bodies of so many bytes in all (BF-FETCH-16).

        Raises:
            QuotaExceeded: they are more than are allowed.
        """
        if self.max_bytes and size > self.max_bytes:
            raise QuotaExceeded(
                f"the bodies have at least {size} bytes, and the policy of the scope "
                f"allows {self.max_bytes}; see `bgfetch scope show`"
            )


# Matched for every origin of a fetch and at every redirect.
_pattern = lru_cache(maxsize=1024)(OriginPattern.parse)


def _no_pattern(text: str) -> InvalidURL:
    return InvalidURL(
        f"{text!r} is no pattern of origins: write https://cdn.example, "
        "cdn.example:8443 or *.example.com"
    )
