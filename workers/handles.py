"""The handles of libcurl that carry one exchange each.

What libcurl could decide by itself is off: redirects, content decoding, proxies from
the environment, credentials from files.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import pycurl

from workers.exchange import Fault, Outgoing, TransferError, TransportLimits
from workers.faults import fault_of
from workers.guard import Guard
from workers.heads import request_lines
from workers.reach import Reach
from workers.reception import Reception

_REPEATABLE = ("GET", "HEAD")
_FRAMED = ("POST", "PUT")
"""Methods that announce even a missing body, with ``Content-Length: 0``."""


class Easy:
    """One easy handle of libcurl, its guard, and the exchange that it carries."""

    def __init__(self, limits: TransportLimits, reach: Reach, ca_bundle: str) -> None:
        self._guard = Guard(reach)
        self._headers: tuple[tuple[str, str], ...] | None = None
        self.curl = curl = pycurl.Curl()
        protocols = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, protocols),
            (pycurl.REDIR_PROTOCOLS, protocols),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.CAINFO, ca_bundle),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.BUFFERSIZE, 1024 * 1024),
            (pycurl.CONNECTTIMEOUT_MS, round(limits.connect_timeout * 1000)),
            (pycurl.OPENSOCKETFUNCTION, self._guard.open_socket),
        ):
            curl.setopt(option, value)

    def prepare(self, outgoing: Outgoing, reception: Reception) -> None:
        """Set what differs from one exchange to the next."""
        self._guard.reset()
        self.reception = reception
        curl, method = self.curl, outgoing.method
        curl.setopt(pycurl.URL, outgoing.url.partition("#")[0])
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

    def fault(self, code: int, message: str) -> TransferError:
        """What a failed transfer is called here."""
        guard, connected = self._guard, self.reception.connected
        if code == pycurl.E_COULDNT_CONNECT and guard.refusal is not None:
            return TransferError(
                Fault.FORBIDDEN, f"the address may not be reached: {guard.refusal}"
            )
        if not connected and guard.failure is not None:
            message = f"{message}: {guard.failure}"
        errno = self.curl.getinfo(pycurl.OS_ERRNO)
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
