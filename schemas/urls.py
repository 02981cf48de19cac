"""URLs that may be fetched: parsed as browsers do (WHATWG URL), refused for a reason.

A URL is parsed once, here. The serialisation has one reading only, so the checks look
at that text, and libcurl is handed the same text.
"""

from __future__ import annotations

import re

from ada_url import join_url, normalize_url

from schemas.addresses import AddressPolicy
from schemas.errors import ForbiddenAddress, InvalidURL

MAX_LENGTH = 32 * 1024
"""Characters of a URL at most, before and after parsing."""

# Fetch § port blocking (BF-SEC-08).
_BAD_PORTS = """
    0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109
    110 111 113 115 117 119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526
    530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 1720 1723 2049 3659
    4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080
"""
BAD_PORTS = frozenset(map(int, _BAD_PORTS.split()))

_BREAKS = frozenset("\n\r\t")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 200


def parse_url(value: str, base: str | None) -> str:
    """Return ``value``, resolved against ``base``, as a serialised http(s) URL.

    The fragment is kept. Without ``base`` the URL must be absolute.

    Raises:
        InvalidURL: it cannot be parsed, is not http(s), has a user name or password
            (BF-FETCH-03), a blocked port (BF-SEC-08) or dangling markup (BF-SEC-10),
            or is longer than 32 KiB.
    """
    if not isinstance(value, str):
        raise InvalidURL(f"a URL must be a string, got {value!r}")
    if len(value) > MAX_LENGTH:
        raise _too_long(value, len(value))
    if "<" in value and not _BREAKS.isdisjoint(value):
        raise _refused(value, "it has a line break or tab together with '<'")
    url = _parse(value, base)
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https"):
        scheme = url.partition(":")[0]
        raise _refused(value, f"its scheme is {scheme!r}; use http or https")
    authority = rest.partition("/")[0]
    if "@" in authority:
        # A message goes into logs, and a password does not.
        shown = f"{scheme}://…@{authority.rpartition('@')[2]}/"
        raise _refused(
            shown, "it carries a user name or password; send an Authorization header"
        )
    port = authority.rpartition(":")[2]
    if port.isdigit() and int(port) in BAD_PORTS:
        raise _refused(value, f"port {port} is blocked (Fetch § port blocking)")
    if len(url) > MAX_LENGTH:
        raise _too_long(value, len(url))
    return url


def check_address(url: str, policy: AddressPolicy) -> None:
    """Refuse a serialised URL whose host is an address that ``policy`` denies.

    Names are not resolved; ``localhost`` and names below it are loopback (RFC 6761).

    Raises:
        ForbiddenAddress: the host is a denied address.
    """
    address = literal_address(url)
    if address is not None:
        reason = policy.refusal(address)
    elif _is_localhost(host_of(url)):
        # Either family will do: which one is dialled is decided when connecting.
        reason = policy.refusal("127.0.0.1") and policy.refusal("::1")
    else:
        return
    if reason is not None:
        raise ForbiddenAddress(
            f"{_shown(url)}: its address may not be reached: {reason}; an operator can "
            "except networks with BGFETCH_ALLOW_NETWORKS"
        )


def literal_address(url: str) -> str | None:
    """Return the IP address that is the host of a serialised URL, or None for a name.

    All spellings are one by then: ``http://0x7f.1/`` was serialised as 127.0.0.1.
    """
    host = host_of(url)
    if host.startswith("["):
        return host[1:-1]
    # The parser lets a host end in a number only if all of it is an IPv4 address.
    return host if host[-1:].isdigit() and _is_dotted(host) else None


def origin_of(url: str) -> str:
    """Return the origin of a serialised URL: scheme, host, and a port of its own.

    ``https://h:443/x`` was serialised without its port: ``https://h`` (RFC 6454 § 6.2).
    """
    end = url.find("/", len("https://"))
    return url if end < 0 else url[:end]


def host_of(url: str) -> str:
    """Return the host of a serialised URL; an IPv6 address keeps its brackets."""
    authority = url.split("/", 3)[2]
    if authority.endswith("]"):
        return authority
    return authority.rpartition(":")[0] if ":" in authority else authority


def _parse(value: str, base: str | None) -> str:
    try:
        # What says all by itself is not resolved, which would parse the base anew.
        if base is None or value.startswith(("http://", "https://")):
            return normalize_url(value)
        return join_url(base, value)
    except ValueError as error:
        reason = "it cannot be parsed"
        if _SURROGATE.search(value):
            reason = "it holds a lone surrogate, which has no UTF-8"
        elif base is None:
            reason += "; without a base URL it must be absolute, as https://host/path"
        raise _refused(value, reason) from error


def _is_dotted(host: str) -> bool:
    return host.replace(".", "").isdigit()


def _is_localhost(host: str) -> bool:
    name = host.removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")


def _refused(value: str, reason: str) -> InvalidURL:
    return InvalidURL(f"{_shown(value)} cannot be fetched: {reason}")


def _too_long(value: str, length: int) -> InvalidURL:
    return _refused(value, f"it has {length} characters; the limit is {MAX_LENGTH}")
