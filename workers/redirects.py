"""The next hop of a redirect, or why it is not taken (Fetch § HTTP-redirect fetch)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Literal
from urllib.parse import quote

from schemas.addresses import AddressPolicy
from schemas.errors import ForbiddenAddress, InvalidURL
from schemas.records import ResponseHead
from schemas.secrets import is_secret_header
from schemas.urls import check_address, origin_of, parse_url
from workers.exchange import Fault, Outgoing, TransferError

MAX_REDIRECTS = 20
STATUSES = frozenset({301, 302, 303, 307, 308})

# Fetch § request-body-header name, and the length that goes with them.
_BODY_HEADERS = frozenset(
    {
        "content-encoding",
        "content-language",
        "content-location",
        "content-type",
        "content-length",
    }
)


class RedirectRefused(TransferError):
    """A redirect is not followed; FORBIDDEN by a rule, or MALFORMED."""


def next_hop(
    outgoing: Outgoing,
    head: ResponseHead,
    *,
    count: int,
    mode: Literal["follow", "error", "manual"] = "follow",
    policy: AddressPolicy | None = None,
    refusal: Callable[[str], str | None] | None = None,
    secrets: Collection[str] = (),
    allow_downgrade: bool = False,
) -> Outgoing | None:
    """Return the request that ``head`` redirects ``outgoing`` to, or None.

    ``count`` redirects were followed before; 20 is the limit. In mode ``manual`` no
    redirect is followed. A literal address is held against ``policy`` here, names when
    they are dialled; ``refusal`` is the scope's own say on a URL. Header names in
    ``secrets`` are dropped on a change of origin, like those that tell secrets anyway.
    A body that goes along was read once: the caller gives the next exchange a new one.

    Raises:
        RedirectRefused: mode ``error``, too many, no usable Location, a URL that may
            not be fetched (BF-SEC-11), or https to http without ``allow_downgrade``.
    """
    if head.status not in STATUSES or mode == "manual":
        return None
    if mode == "error":
        raise _forbidden(f"status {head.status}, and redirects are not allowed")
    location = _location(head)
    if location is None:
        return None
    if count >= MAX_REDIRECTS:
        raise _forbidden(f"more than {MAX_REDIRECTS} redirects")
    url = _target(outgoing.url, location)
    _check(url, policy, refusal)
    downgrade = outgoing.url.startswith("https:") and url.startswith("http:")
    if downgrade and not allow_downgrade:
        raise _forbidden(f"from https to http: {url[:200]!r}")
    return _redirected(outgoing, url, head.status, secrets)


def _location(head: ResponseHead) -> str | None:
    values = set(head.get_all("Location"))
    if len(values) > 1:
        raise _malformed(f"{len(values)} different Location headers")
    return values.pop() if values else None


def _target(current: str, location: str) -> str:
    try:
        url = parse_url(_decoded(location), current)
    except InvalidURL as error:
        raise _forbidden(str(error)) from error
    # A fragment of the redirect's own wins; else the one asked for stays.
    if "#" not in url and "#" in current:
        url += "#" + current.partition("#")[2]
    return url


def _decoded(location: str) -> str:
    """Undo the header's latin-1: browsers read UTF-8, and escape what is none."""
    if location.isascii():
        return location
    data = location.encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return quote(data, safe=bytes(range(128)))


def _check(
    url: str,
    policy: AddressPolicy | None,
    refusal: Callable[[str], str | None] | None,
) -> None:
    if policy is not None:
        try:
            check_address(url, policy)
        except ForbiddenAddress as error:
            raise _forbidden(str(error)) from error
    reason = refusal(url) if refusal is not None else None
    if reason is not None:
        raise _forbidden(reason)


def _redirected(
    outgoing: Outgoing, url: str, status: int, secrets: Collection[str]
) -> Outgoing:
    method, body, dropped = outgoing.method, outgoing.body, set[str]()
    if (status in (301, 302) and method == "POST") or (
        status == 303 and method not in ("GET", "HEAD")
    ):
        method, body = "GET", None
        dropped |= _BODY_HEADERS
    if origin_of(url) != origin_of(outgoing.url):
        dropped |= {name.lower() for name in secrets}
        names = (name for name, _ in outgoing.headers)
        dropped |= {name.lower() for name in names if is_secret_header(name)}
    headers = tuple(
        (name, value) for name, value in outgoing.headers if name.lower() not in dropped
    )
    return replace(outgoing, method=method, url=url, headers=headers, body=body)


def _forbidden(reason: str) -> RedirectRefused:
    return RedirectRefused(Fault.FORBIDDEN, f"redirect refused: {reason}")


def _malformed(reason: str) -> RedirectRefused:
    return RedirectRefused(Fault.MALFORMED, f"redirect refused: {reason}")
