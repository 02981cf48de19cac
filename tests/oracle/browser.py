"""A headless Chromium, driven by the DevTools protocol over a pair of pipes.

Chromium reads commands from descriptor 3 and answers on 4, as JSON ended by a null
byte. No library is needed for that, and no port is opened.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_FIRST_FREE = 10
# Descriptors 3 and 4 can be given away only by the child itself.
_EXEC = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
_ANSWER_SECONDS = 90
_CLOSE_SECONDS = 15


class BrowserError(Exception):
    """Chromium refused a command, threw, or went away."""


class Browser:
    """Commands to a running Chromium."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.WriteTransport
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(
        self, method: str, *, session: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Send a command and return its result.

        Raises:
            BrowserError: Chromium refuses it, or is gone.
            TimeoutError: it does not answer.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answer = self._answers[number] = asyncio.Future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(_ANSWER_SECONDS):
            told = await answer
        if "error" in told:
            raise BrowserError(f"{method}: {told['error']}")
        result: dict[str, Any] = told["result"]
        return result

    async def evaluate(self, session: str, expression: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        told = await self.call(
            "Runtime.evaluate",
            session=session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in told:
            raise BrowserError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    async def listen(self) -> None:
        """Hand answers to those who wait, until Chromium goes."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                waiting = self._answers.pop(message.get("id"), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        for answer in self._answers.values():
            answer.set_exception(BrowserError("Chromium has ended"))


@asynccontextmanager
async def running(program: str) -> AsyncIterator[Browser]:
    """Run Chromium with an empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        (commands, to), (back, answers) = os.pipe(), os.pipe()
        given = [
            fcntl.fcntl(each, fcntl.F_DUPFD, _FIRST_FREE)
            for each in (commands, answers)
        ]
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _EXEC, *map(str, given), program, *_OPTIONS),
            f"--user-data-dir={profile}",
            pass_fds=given,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for theirs in (commands, answers, *given):
            os.close(theirs)
        try:
            async with _connected(back, to) as browser:
                yield browser
        finally:
            await _end(child)


@asynccontextmanager
async def _connected(back: int, to: int) -> AsyncIterator[Browser]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    incoming, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(back, "rb")
    )
    outgoing, _ = await loop.connect_write_pipe(
        asyncio.BaseProtocol, os.fdopen(to, "wb")
    )
    browser = Browser(reader, outgoing)
    listening = asyncio.create_task(browser.listen())
    try:
        yield browser
        with suppress(BrowserError):
            await browser.call("Browser.close")
    finally:
        outgoing.close()
        incoming.close()
        listening.cancel()
        await asyncio.wait([listening])


async def _end(child: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
