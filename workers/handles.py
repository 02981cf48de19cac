"""The handles of libcurl that carry one exchange each.

What libcurl could decide by itself is off: redirects, content decoding, proxies from
the environment, credentials from files.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress

import pycurl

from schemas.proxies import Proxy
from workers.exchange import Fault, Outgoing, TransferError, TransportLimits
from workers.faults import fault_of, proxy_fault
from workers.guard import Guard
from workers.heads import request_lines
from workers.reach import Reach
from workers.reception import Reception

_REPEATABLE = ("GET", "HEAD")
_FRAMED = ("POST", "PUT")
"""Methods that announce even a missing body, with ``Content-Length: 0``."""


_SUPPRESS_CONNECT_HEADERS = 265
"""An option that pycurl does not name: the proxy's own head is no response."""


class Easy:
    """One easy handle of libcurl, its guard, and the exchange that it carries."""

    def __init__(
        self,
        limits: TransportLimits,
        reach: Reach,
        ca_bundle: str,
        proxy: Proxy | None = None,
    ) -> None:
        self._proxy = proxy
        self._tunnels = proxy is None or proxy.scheme == "socks5h"
        self._guard = Guard(reach, proxy_port=proxy.port if proxy else None)
        self._headers: tuple[tuple[str, str], ...] | None = None
        self.curl = curl = pycurl.Curl()
        protocols = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, protocols),
            (pycurl.REDIR_PROTOCOLS, protocols),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.CAINFO, ca_bundle),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.BUFFERSIZE, limits.buffer),
            (pycurl.CONNECTTIMEOUT_MS, round(limits.connect_timeout * 1000)),
            (pycurl.EXPECT_100_TIMEOUT_MS, round(limits.expect_timeout * 1000)),
            (pycurl.OPENSOCKETFUNCTION, self._guard.open_socket),
            (pycurl.MAX_RECV_SPEED_LARGE, limits.transfer_rate or 0),
            (pycurl.MAX_SEND_SPEED_LARGE, limits.transfer_rate or 0),
            *_proxy_options(proxy, ca_bundle),
        ):
            curl.setopt(option, value)

    def prepare(
        self, outgoing: Outgoing, reception: Reception, address: str | None = None
    ) -> None:
        """Set what differs from one exchange to the next.

        The proxy is asked for ``address``, if there is one, instead of the host.
        """
        self._guard.reset()
        self.reception = reception
        curl, method = self.curl, outgoing.method
        url = outgoing.url.partition("#")[0]
        curl.setopt(pycurl.URL, url)
        # libcurl would write %2f as %2F, and a signature of the URL would not hold.
        plain = self._tunnels or address is not None or url.startswith("https:")
        target = "/" + url.split("/", 3)[3] if plain else url
        curl.setopt(pycurl.REQUEST_TARGET, target)
        if address is not None:
            host = f"[{address}]" if ":" in address else address
            curl.setopt(pycurl.CONNECT_TO, [f"::{host}:"])
        if outgoing.headers != self._headers:
            curl.setopt(pycurl.HTTPHEADER, request_lines(outgoing.headers))
            self._headers = outgoing.headers
        curl.setopt(pycurl.PREREQFUNCTION, reception.ready)
        curl.setopt(pycurl.HEADERFUNCTION, reception.header)
        curl.setopt(pycurl.WRITEFUNCTION, reception.body)
        if method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif method != "GET":
            curl.setopt(pycurl.CUSTOMREQUEST, method)
        if method not in _REPEATABLE:
            # On a kept connection that turns out dead libcurl would send it again.
            curl.setopt(pycurl.FRESH_CONNECT, 1)
        if outgoing.body is not None or method in _FRAMED:
            length = 0 if outgoing.body is None else outgoing.body.length
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, length)
            curl.setopt(pycurl.READFUNCTION, reception.upload)
            curl.setopt(pycurl.SEEKFUNCTION, reception.rewind)

    def fault(self, code: int, message: str) -> TransferError:
        """What a failed transfer is called here."""
        guard, connected = self._guard, self.reception.connected
        if code == pycurl.E_COULDNT_CONNECT and guard.refusal is not None:
            return TransferError(
                Fault.FORBIDDEN, f"the address may not be reached: {guard.refusal}"
            )
        if not connected and guard.failure is not None:
            message = f"{message}: {guard.failure}"
        getinfo = self.curl.getinfo
        if self._proxy is not None and not connected:
            fault = proxy_fault(
                code,
                status=getinfo(pycurl.HTTP_CONNECTCODE),
                reply=getinfo(pycurl.PROXY_ERROR),
                socks=self._proxy.scheme == "socks5h",
            )
            if fault is not None:
                return TransferError(fault, f"the proxy {self._proxy.url}: {message}")
        errno = getinfo(pycurl.OS_ERRNO)
        return fault_of(code, message, connected=connected, errno=errno)

    def result(self, fault: TransferError | None) -> BaseException | None:
        """What the exchange raises at its end."""
        answer = self.reception.answer
        if answer is not None and answer.ambiguous:
            self._shut()
        return self.reception.result(fault)

    def _shut(self) -> None:
        """Make libcurl find the connection dead when it would use it again."""
        descriptor = self.curl.getinfo(pycurl.ACTIVESOCKET)
        if descriptor >= 0:
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as own:
                own.shutdown(socket.SHUT_RDWR)


def _proxy_options(
    proxy: Proxy | None, ca_bundle: str
) -> Iterable[tuple[int, int | str]]:
    """The proxy, or that there is none, whatever the environment says."""
    if proxy is None:
        return [(pycurl.PROXY, "")]
    options: list[tuple[int, int | str]] = [
        (pycurl.PROXY, proxy.url),
        # Without this, NO_PROXY in the environment would send hosts past the proxy.
        (pycurl.NOPROXY, ""),
        (pycurl.PROXY_CAINFO, ca_bundle),
        (pycurl.PROXY_SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
        (pycurl.HEADEROPT, pycurl.HEADER_SEPARATE),
        (_SUPPRESS_CONNECT_HEADERS, 1),
    ]
    if proxy.username:
        options += [
            (pycurl.PROXYUSERNAME, proxy.username),
            (pycurl.PROXYPASSWORD, proxy.password),
        ]
    return options
