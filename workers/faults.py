"""What an error of libcurl means here. Its numbers are a stable interface (curl.h)."""

from __future__ import annotations

from workers.exchange import Fault, TransferError

STOPPED_BY_CALLBACK = (23, 42)  # WRITE_ERROR, ABORTED_BY_CALLBACK
_TIMED_OUT = 28
_TLS_CONNECT = 35
_RECEIVE = 56

_FAULTS = {
    5: Fault.OFFLINE,  # COULDNT_RESOLVE_PROXY
    6: Fault.OFFLINE,  # COULDNT_RESOLVE_HOST
    7: Fault.OFFLINE,  # COULDNT_CONNECT
    1: Fault.MALFORMED,  # UNSUPPORTED_PROTOCOL: no HTTP/1 or 2, or no status
    3: Fault.MALFORMED,  # URL_MALFORMAT: a host that WHATWG allows and libcurl does not
    8: Fault.MALFORMED,  # WEIRD_SERVER_REPLY
    61: Fault.MALFORMED,  # BAD_CONTENT_ENCODING: an unknown transfer coding
    63: Fault.LIMIT,  # FILESIZE_EXCEEDED
    100: Fault.LIMIT,  # TOO_LARGE: a header line, or 5,000 headers
    53: Fault.TLS,  # SSL_ENGINE_NOTFOUND
    54: Fault.TLS,  # SSL_ENGINE_SETFAILED
    58: Fault.TLS,  # SSL_CERTPROBLEM
    59: Fault.TLS,  # SSL_CIPHER
    60: Fault.TLS,  # PEER_FAILED_VERIFICATION
    66: Fault.TLS,  # SSL_ENGINE_INITFAILED
    77: Fault.TLS,  # SSL_CACERT_BADFILE
    82: Fault.TLS,  # SSL_CRL_BADFILE
    83: Fault.TLS,  # SSL_ISSUER_ERROR
    90: Fault.TLS,  # SSL_PINNEDPUBKEYNOTMATCH
    91: Fault.TLS,  # SSL_INVALIDCERTSTATUS
    98: Fault.TLS,  # SSL_CLIENTCERT
}
_PROXY = 97
_NOT_ALLOWED = 23
"""CURLPX_REPLY_NOT_ALLOWED: a SOCKS proxy's own rules forbid the target."""
_UNSAID = {
    18: "the body ended early",  # PARTIAL_FILE
    92: "the origin broke off, or broke HTTP/2",  # HTTP2_STREAM
}
"""What libcurl leaves without a message of its own."""
_LOST = ("reset by peer", "syscall", "unexpected eof", "broken pipe")


def fault_of(code: int, message: str, *, connected: bool, errno: int) -> TransferError:
    """Return what a failed transfer of libcurl's is called here.

    ``connected``: the connection was ready for the request. ``errno`` is the system's.
    """
    detail = message or _UNSAID.get(code) or f"libcurl's error {code}"
    return TransferError(_fault(code, message.lower(), connected, errno), detail)


def proxy_fault(code: int, *, status: int, reply: int, socks: bool) -> Fault | None:
    """What a failure before the request means that is the proxy's; None if it is not.

    ``status`` is that of its answer to CONNECT, 0 without one, ``reply`` the reason
    that libcurl gives for a SOCKS proxy.
    """
    if status == 403 or reply == _NOT_ALLOWED:
        return Fault.FORBIDDEN
    refused = code == _PROXY if socks else not 200 <= status <= 299
    if not refused or _FAULTS.get(code) is Fault.MALFORMED:
        return None
    # What is wrong with a proxy is no fault of the origin, which was not reached.
    return Fault.OFFLINE


def _fault(code: int, message: str, connected: bool, errno: int) -> Fault:
    if code == _TIMED_OUT:
        return Fault.NETWORK if connected else Fault.OFFLINE
    if code == _TLS_CONNECT:
        lost = errno or any(word in message for word in _LOST)
        return Fault.NETWORK if lost else Fault.TLS
    if code == _RECEIVE:
        return _receive_fault(message)
    # The rest are connections that broke: PARTIAL_FILE, SEND_ERROR, GOT_NOTHING, HTTP2…
    return _FAULTS.get(code, Fault.NETWORK)


def _receive_fault(message: str) -> Fault:
    """Tell apart what libcurl calls "failure when receiving data" (RECV_ERROR)."""
    if "too large response headers" in message:
        return Fault.LIMIT
    return Fault.MALFORMED if "chunk" in message else Fault.NETWORK
