"""Takes in one response, callback by callback, and decides how the exchange ended.

Nothing is raised through libcurl, which would print it: an error is kept, the transfer
is told to stop, and ``result`` gives the error to whoever awaits the exchange.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from broker.store import Congested
from workers.exchange import Fault, Outgoing, Sink, TransferError, TransportLimits
from workers.heads import Received, read_head
from workers.throttle import Throttle

STOP = 0
"""A count that is not the size of what was offered: libcurl ends the transfer."""
STOP_READING = 0x10000000
"""CURL_READFUNC_ABORT."""
PAUSE = 0x10000001
"""CURL_WRITEFUNC_PAUSE and CURL_READFUNC_PAUSE: offer or ask again when resumed."""
GO_ON = 0
"""CURL_PREREQFUNC_OK, CURL_SEEKFUNC_OK."""
CANNOT_SEEK = 2
"""CURL_SEEKFUNC_CANTSEEK."""
_END_OF_HEAD = (b"\r\n", b"\n")
_EXPECTING = 1024 * 1024
"""With a larger body libcurl first asks whether it is wanted (``Expect``)."""
_SMALL_BODY = 16 * 1024
"""An unwanted body of at most so many bytes is read, to keep the connection."""


class Reception:
    """The state of one exchange between libcurl's callbacks and a sink."""

    __slots__ = (
        "_clock",
        "_deadline",
        "_expecting",
        "_head_size",
        "_limits",
        "_lines",
        "_mark",
        "_outgoing",
        "_paused",
        "_sink",
        "_throttle",
        "_uploaded",
        "_wake",
        "_wanted",
        "answer",
        "error",
        "received",
        "resume",
        "sent",
    )

    def __init__(
        self,
        outgoing: Outgoing,
        sink: Sink,
        limits: TransportLimits,
        *,
        clock: Callable[[], float],
        wake: Callable[[Callable[[], None]], object] | None = None,
        uploaded: Callable[[int], None] | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self.answer: Received | None = None
        self.error: BaseException | None = None
        """What ends the exchange, whatever libcurl calls it."""
        self.sent = 0
        self.received = 0
        self.resume: Callable[[], None] = _nothing
        """Go on after a pause; set by whoever carries the transfer, on its loop."""
        self._outgoing = outgoing
        self._sink = sink
        self._limits = limits
        self._clock = clock
        self._wake = wake
        self._uploaded = uploaded
        self._throttle = throttle
        self._paused = False
        self._wanted = True
        self._expecting = self._length > _EXPECTING
        self._lines: list[bytes] = []
        self._head_size = 0
        self._deadline = math.inf
        self._mark = 0

    @property
    def connected(self) -> bool:
        """Whether there was a connection ready for the request."""
        return self._deadline != math.inf

    @property
    def _length(self) -> int:
        body = self._outgoing.body
        return 0 if body is None else body.length

    def ready(self, *_addresses: object) -> int:
        """The connection stands; the request is sent now, and the head may be due."""
        self._deadline = self._clock() + self._limits.first_byte_timeout
        return GO_ON

    def header(self, line: bytes) -> int | None:
        """Take a status line, a header, the empty line after them, or a trailer."""
        if line not in _END_OF_HEAD:
            # libcurl itself gives up at 300 KiB or 5,000 lines of heads and trailers.
            if self.answer is None:
                self._lines.append(line)
            return None
        try:
            return self._head_complete()
        except BaseException as error:
            return self._stop(error)

    def body(self, chunk: bytes) -> int | None:
        """Take bytes of the body."""
        if self._throttle is not None and not self._admitted(len(chunk)):
            return PAUSE
        self.received += len(chunk)
        if not self._wanted:
            return None if self.received <= _SMALL_BODY else STOP
        try:
            if self._sink.write(chunk):
                return None
        except Congested as congestion:
            return self._wait(len(chunk), congestion)
        except BaseException as error:
            return self._stop(error)
        return self._stop(TransferError(Fault.STOPPED, "the sink took enough"))

    def upload(self, size: int) -> bytes | int:
        """Give the next bytes of the request's body."""
        if self._throttle is not None and not self._admitted(0):
            return PAUSE
        body = self._outgoing.body
        try:
            chunk = b"" if body is None else body.read(size)
            self.sent += len(chunk)
            if self._throttle is not None:
                self._throttle.took(len(chunk))
            # Without these bytes the origin would wait for ever for the rest.
            if not chunk and self.sent < self._length:
                raise ValueError(f"a body of {self._length} bytes gave {self.sent}")
            if chunk and self._uploaded is not None:
                self._uploaded(self.sent)
        except Congested as congestion:
            return self._wait(0, congestion)
        except BaseException as error:
            self._stop(error)
            return STOP_READING
        return chunk

    def rewind(self, offset: int, _whence: int) -> int:
        """Give the body from its start again, for a request that was refused unread."""
        body = self._outgoing.body
        if body is None or offset:
            return CANNOT_SEEK
        body.rewind()
        self.sent = self._mark = 0
        return GO_ON

    def overdue(self, now: float) -> bool:
        """Whether to end the exchange now for want of progress, as ``error`` says."""
        if now < self._deadline:
            return False
        limits = self._limits
        if self._paused:
            # It is we who let it wait.
            self._deadline = now + limits.stall_time
            return False
        if not self._wanted:
            return True
        if self.answer is None:
            if self.sent > self._mark:
                self._mark = self.sent
                self._deadline = now + limits.first_byte_timeout
                return False
            seconds = limits.first_byte_timeout
            detail = f"no whole response head within {seconds:g} s"
        else:
            moved = self.sent + self.received
            if moved - self._mark >= limits.stall_time:
                self._mark = moved
                self._deadline = now + limits.stall_time
                return False
            detail = f"less than 1 byte/s for {limits.stall_time:g} s"
        self._stop(TransferError(Fault.NETWORK, detail))
        return True

    def result(self, fault: TransferError | None) -> BaseException | None:
        """What to raise at the end, given what libcurl calls a failure, if anything."""
        if not self._wanted:
            return None
        if self.error is not None or fault is not None:
            return self.error or fault
        if self.answer is None:
            return TransferError(Fault.NETWORK, "the connection ended before the head")
        length = self.answer.length
        if length is not None and length != self.received:
            return TransferError(
                Fault.NETWORK, f"the body ended after {self.received} of {length} bytes"
            )
        return None

    def release(self) -> None:
        """Let go of the sink, which libcurl's kept handle would hold on to."""
        del self._sink, self._outgoing, self._uploaded

    def end(self) -> None:
        """Wait for no turn any more."""
        self.resume = _nothing
        if self._throttle is not None:
            self._throttle.forget(self)

    def _admitted(self, count: int) -> bool:
        assert self._throttle is not None
        self._paused = not self._throttle.admits(self)
        if not self._paused:
            self._throttle.took(count)
        return not self._paused

    def _wait(self, size: int, congestion: Congested) -> int:
        """Pause until the sink has room, or the body has bytes: then all goes on."""
        self._paused = True
        self.received -= size
        if self._throttle is not None:
            self._throttle.took(-size)
        congestion.wait(self._go_on_soon)
        return PAUSE

    def _go_on_soon(self) -> None:
        """Go on from whatever thread this is."""
        assert self._wake is not None
        with suppress(RuntimeError):  # the event loop is closed
            self._wake(self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        self.resume()

    def _head_complete(self) -> int | None:
        if self.answer is not None:
            return None
        lines, self._lines = self._lines, []
        outgoing, limit = self._outgoing, self._limits.max_header_bytes
        self._head_size += sum(map(len, lines))
        if self._head_size > limit:
            raise TransferError(Fault.LIMIT, f"the head is larger than {limit} bytes")
        answer = read_head(lines, method=outgoing.method, url=outgoing.url)
        if answer is None or self._expectation_failed(answer.head.status):
            return None
        self.answer = answer
        self._mark = self.sent
        # Fetch § null body status: what follows a 205 all the same is no body.
        self._wanted = self._sink.head(answer.head) and answer.head.status != 205
        if self._wanted:
            self._deadline = self._clock() + self._limits.stall_time
        elif answer.length is None or answer.length > _SMALL_BODY or self._sending:
            return STOP
        return None

    @property
    def _sending(self) -> bool:
        return self.sent < self._length

    def _expectation_failed(self, status: int) -> bool:
        """Whether libcurl now sends the request again, without an ``Expect``.

        The origin has refused the expectation and nothing else (RFC 9110 §10.1.1), so
        that this is no second try of a request that is sent once.
        """
        failed = self._expecting and status == 417 and self._sending
        self._expecting = self._expecting and not failed
        return failed

    def _stop(self, error: BaseException) -> int:
        if self.error is None:
            self.error = error
        return STOP


def _nothing() -> None:
    """Stand in for ``resume`` while there is no transfer."""
