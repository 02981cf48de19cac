"""Who sends a request: a bearer token, or a name and password (RFC 6750, RFC 7617)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from pathlib import Path

import structlog
from anyio import to_thread
from starlette.requests import HTTPConnection

from broker.accounts import ANYBODY, Account, Accounts
from broker.gateway.rates import Rates
from schemas.errors import ConfigError

log = structlog.get_logger()

MOST_FAILURES = 10
"""Wrong passwords that an address may try at once; then one in six seconds."""
MOST_REMEMBERED = 1000


class Unknown(Exception):
    """The request does not prove who sends it."""


class Tries(Exception):
    """Too many wrong proofs came from this address."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many wrong passwords or tokens: wait {seconds:.0f} s")
        self.seconds = seconds


class Login:
    """Finds the account of a request in a file, which is read again as it changes."""

    def __init__(self, path: Path | None) -> None:
        """Without a file everybody may do everything.

        Raises:
            ConfigError: the file cannot be used.
        """
        self._path = path
        self._stamp = self._look()
        self._accounts = Accounts.load(path) if path else None
        self._failures = Rates(1 / 6, MOST_FAILURES)
        # A password costs 50 ms, so what was right is remembered, under a key of this
        # process: its memory has nobody's password.
        self._secret = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, Account] = OrderedDict()

    async def account(self, request: HTTPConnection) -> Account:
        """Return the account that sends ``request``.

        Raises:
            Unknown: it proves none.
            Tries: too many wrong proofs came from its address.
        """
        if self._path is None:
            return ANYBODY
        self._read_again(self._path)
        assert self._accounts is not None
        kind, _, proof = request.headers.get("authorization", "").partition(" ")
        address = request.client.host if request.client else ""
        if not proof:
            raise Unknown("this needs a token, or a name and password")
        if seconds := self._failures.exhausted(address):
            raise Tries(seconds)
        if kind.lower() == "bearer":
            found = self._accounts.of_token(proof.strip())
        elif kind.lower() == "basic":
            found = await self._by_password(self._accounts, proof.strip())
        else:
            raise Unknown(f"no such way to log in: {kind!r}; use Bearer or Basic")
        if found is None:
            self._failures.wait(address)
            raise Unknown("the token, or the name and password, are wrong")
        return found

    async def _by_password(self, accounts: Accounts, proof: str) -> Account | None:
        mark = hmac.digest(self._secret, proof.encode(), hashlib.sha256)
        if mark in self._known:
            return self._known[mark]
        try:
            name, colon, password = base64.b64decode(proof).decode().partition(":")
        except ValueError:
            return None
        if not colon:
            return None
        found = await to_thread.run_sync(accounts.of_password, name, password)
        if found is not None:
            self._known[mark] = found
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _read_again(self, path: Path) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._accounts = Accounts.load(path)
        except ConfigError as error:
            log.error("accounts_kept_as_they_were", error=str(error))
            return
        self._known.clear()
        log.info("accounts_read_again", file=str(path))

    def _look(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
