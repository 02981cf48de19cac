"""``Request``: what to fetch, checked as Fetch's constructor does (BF-FETCH-02)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

from typing_extensions import override

from schemas import codec
from schemas.bodies import Body, BodyStream, StoredBody, check_body
from schemas.errors import InvalidMessage, InvalidRequest
from schemas.fetches import Priority
from schemas.secrets import check_references, shown_headers
from schemas.urls import parse_url

Mode = Literal["cors", "same-origin", "navigate", "no-cors"]
Credentials = Literal["omit", "same-origin", "include"]
Redirect = Literal["follow", "error", "manual"]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

MAX_HEADERS = 200
MAX_HEADER_BYTES = 32 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_FORBIDDEN_METHODS = ("CONNECT", "TRACE", "TRACK")
_NORMALISED = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
# Headers by which a caller could desynchronise the connection, or claim a host or a
# length that is not the real one.
_FORBIDDEN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REFERRER_POLICIES = (
    "",
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
)
_CHOICES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("mode", ("cors", "same-origin", "navigate", "no-cors")),
    ("credentials", ("omit", "same-origin", "include")),
    ("redirect", ("follow", "error", "manual")),
    ("referrer_policy", _REFERRER_POLICIES),
    ("priority", tuple(Priority)),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to fetch; the members of the Fetch standard's ``Request``.

    The URL may be relative until ``fetch()`` resolves it against the scope's base.
    ``body`` is bytes, text (sent as UTF-8), a path, a binary file, or an iterable of
    bytes, asynchronous ones included. ``fetch()`` reads it to its end, in bounded
    memory, and stores it (BF-FETCH-14). Files and iterables are used up by that; bytes
    stay bytes in ``body``, everything else becomes a ``BodyStream``.

    ``integrity`` is Subresource Integrity metadata such as ``sha256-…``: of the
    strongest algorithm in it (sha256, sha384, sha512), any digest may be that of the
    body as stored, else the record fails with ``fetch-error`` and both digests in its
    failure reason. As in browsers no such text is refused: unknown algorithms are
    ignored, and text without a known one checks nothing. A malformed digest of a known
    one is met by no bytes.

    A word ``secret:NAME`` in the value of a header, as in ``Bearer secret:NAME``, is
    replaced by the worker with a secret of its own, for origins to which it may go.

    Raises:
        InvalidRequest: a member is malformed or forbidden; the message shows it.
    """

    url: str
    method: str = field(default="GET", kw_only=True)
    headers: Headers | None = field(default=None, kw_only=True)
    body: Body | None = field(default=None, kw_only=True)
    mode: Mode = field(default="cors", kw_only=True)
    credentials: Credentials = field(default="same-origin", kw_only=True)
    redirect: Redirect = field(default="follow", kw_only=True)
    referrer: str = field(default="about:client", kw_only=True)
    referrer_policy: str = field(default="", kw_only=True)
    integrity: str = field(default="", kw_only=True)
    priority: Priority = field(default=Priority.AUTO, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):
            raise InvalidRequest(f"a URL is a string, got {self.url!r}")
        store = object.__setattr__
        if self.method != "GET":
            store(self, "method", _check_method(self.method))
        headers = _check_headers(self.headers)
        if self.body is not None:
            body, implied = check_body(self.body, self.method)
            if implied and not any(
                name.lower() == "content-type" for name, _ in headers
            ):
                headers += (("Content-Type", implied),)
            store(self, "body", body)
        store(self, "headers", headers)
        for name, choices in _CHOICES:
            if getattr(self, name) not in choices:
                raise _no_choice(name, getattr(self, name), choices)
        if not isinstance(self.priority, Priority):
            store(self, "priority", Priority(self.priority))
        if self.mode == "navigate":
            raise InvalidRequest("mode 'navigate' is reserved for browsers")

    @classmethod
    def of(cls, item: Request | str) -> Self | Request:
        """Return ``item`` as a request; a string is its URL (BF-IDL-03)."""
        return item if isinstance(item, Request) else cls(item)

    @override
    def __repr__(self) -> str:
        shown = {each.name: getattr(self, each.name) for each in fields(self)}
        shown["headers"] = shown_headers(self.header_list)
        return f"Request({', '.join(f'{key}={shown[key]!r}' for key in shown)})"

    @property
    def header_list(self) -> tuple[tuple[str, str], ...]:
        """The headers as checked pairs."""
        headers = self.headers
        assert isinstance(headers, tuple)
        return headers

    @property
    def content(self) -> bytes:
        """The body that travels with the request; empty without one."""
        return self.body if isinstance(self.body, bytes) else b""

    @property
    def upload_total(self) -> int:
        """Bytes of the body, once they are known (BF-FETCH-18)."""
        body = self.body
        return body.length if isinstance(body, StoredBody) else len(self.content)

    def resolve(self, base: str | None) -> Request:
        """Return this request with an absolute, checked URL (BF-FETCH-08).

        Raises:
            InvalidURL: it cannot be parsed, or may not be fetched.
            InvalidRequest: its mode is ``no-cors`` (BF-FETCH-04).
        """
        if self.mode == "no-cors":
            raise InvalidRequest(f"mode 'no-cors' cannot be fetched: {self.url!r}")
        url = parse_url(self.url, base)
        return self if url == self.url else replace(self, url=url)

    def encode(self) -> bytes:
        """Pack this request; members at their defaults are left out.

        Raises:
            InvalidRequest: its body is not stored yet.
        """
        plain: dict[str, object] = {"url": self.url}
        for name, wire, default in WIRE:
            value = getattr(self, name)
            if value != default:
                plain[wire] = str(value) if name == "priority" else value
        if isinstance(self.body, StoredBody):
            plain["body"] = self.body.model_dump()
        elif isinstance(self.body, BodyStream):
            raise InvalidRequest(f"the body of {self.url!r} is not stored yet")
        return codec.encode(plain)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Unpack a request.

        Raises:
            InvalidMessage: the bytes are none.
        """
        plain = codec.decode(data)
        members = {name: plain[wire] for name, wire, _ in WIRE if wire in plain}
        headers = members.get("headers", ())
        try:
            members["headers"] = tuple((name, value) for name, value in headers)  # type: ignore[attr-defined]
            # Not a field of its own: who does not know it must not send without it.
            if isinstance(body := members.get("body"), dict):
                members["body"] = StoredBody.from_plain(body)
            return cls(plain["url"], **members)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidMessage(f"no request: {error}") from error


WIRE: tuple[tuple[str, str, object], ...] = (
    ("method", "method", "GET"),
    ("headers", "headers", ()),
    ("body", "body", None),
    ("mode", "mode", "cors"),
    ("credentials", "credentials", "same-origin"),
    ("redirect", "redirect", "follow"),
    ("referrer", "referrer", "about:client"),
    ("referrer_policy", "referrerPolicy", ""),
    ("integrity", "integrity", ""),
    ("priority", "priority", Priority.AUTO),
)
"""Name, name on the wire and default of each member but the URL."""


def _check_method(method: str) -> str:
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise InvalidRequest(f"{method!r} is no HTTP method")
    upper = method.upper()
    if upper in _FORBIDDEN_METHODS:
        raise InvalidRequest(f"method {method!r} is forbidden (Fetch § methods)")
    return upper if upper in _NORMALISED else method


def _check_headers(headers: Headers | None) -> tuple[tuple[str, str], ...]:
    if not headers:
        return ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    try:
        checked = tuple(_check_header(name, value) for name, value in pairs)
    except (ValueError, AttributeError) as error:
        raise InvalidRequest(
            "headers must be a mapping or pairs of strings, got "
            f"{type(headers).__name__}"
        ) from error
    size = sum(len(name) + len(value) for name, value in checked)
    if len(checked) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise InvalidRequest(
            f"at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes, "
            f"got {len(checked)} and {size}"
        )
    return checked


def _check_header(name: str, value: str) -> tuple[str, str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidRequest(f"{name!r} is no header name")
    if name.lower() in _FORBIDDEN_HEADERS:
        raise InvalidRequest(f"the header {name!r} is set by the worker alone")
    value = value.strip(" \t\r\n")
    if any(char in "\r\n\0" or ord(char) > 0xFF for char in value):
        [(_, shown)] = shown_headers([(name, value)])
        raise InvalidRequest(f"the value of header {name!r} cannot be sent: {shown!r}")
    check_references(name, value)
    return name, value


def _no_choice(name: str, value: str, choices: tuple[str, ...]) -> InvalidRequest:
    known = ", ".join(repr(str(choice)) for choice in choices)
    return InvalidRequest(f"{name} must be one of {known}, got {value!r}")
