"""Accounts of the gateway: who has which roles in which scopes; a TOML file.

A table is an account, and its name the account's::

    [ci]                        # a program: Authorization: Bearer …
    token = "sha256:…"
    roles = ["producer"]
    scopes = ["podcasts", "news-*"]

    [ada]                       # a person, who logs in by name and password
    password = "scrypt:…"
    roles = ["operator"]        # in every scope, since none is named

Neither tokens nor passwords are in it, only what proves them: ``bgfetch account`` makes
an entry.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from schemas.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_PATTERN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]{0,63}", re.ASCII)
_COST = {"n": 2**14, "r": 8, "p": 1}
"""What scrypt asks of who guesses passwords: 16 MiB and some 50 ms for each."""


class Role(StrEnum):
    """What an account may do in its scopes."""

    VIEWER = "viewer"
    """Look at fetches, records, events and progress."""
    PRODUCER = "producer"
    """Also register, abort, pause, resume, retry and click background fetches."""
    SUBSCRIBER = "subscriber"
    """Also take events and acknowledge them."""
    OPERATOR = "operator"
    """Everything: dead letters, subscribers, rules of scopes, bulk actions."""

    def includes(self, other: Role) -> bool:
        """Whether who has this role may do what ``other`` may."""
        return self is other or self is Role.OPERATOR or other is Role.VIEWER


@dataclass(frozen=True, slots=True)
class Account:
    """What somebody may do."""

    name: str
    roles: frozenset[Role]
    scopes: tuple[str, ...] = ("*",)
    """Patterns of scope names, in which ``*`` stands for any characters."""
    proof: str = field(default="", repr=False)
    """What proves its token or password: ``<kind>:…``."""

    def may(self, role: Role, scope: str | None) -> bool:
        """Whether it has ``role`` in a scope; without one, in every scope."""
        if not any(held.includes(role) for held in self.roles):
            return False
        if scope is None:
            return "*" in self.scopes
        return any(fnmatchcase(scope, pattern) for pattern in self.scopes)


ANYBODY = Account("anybody", frozenset({Role.OPERATOR}))
"""Who everybody is where there are no accounts."""


class Accounts:
    """The accounts of one file."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._named = {account.name: account for account in accounts}
        self._tokens = {
            account.proof: account
            for account in self._named.values()
            if account.proof.startswith("sha256:")
        }

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or an entry is wrong; the message names it.
        """
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"accounts file {path}: {error}") from error
        if not tables:
            raise ConfigError(f"accounts file {path}: it names no account")
        try:
            return cls([_account(name, table) for name, table in tables.items()])
        except ConfigError as error:
            raise ConfigError(f"accounts file {path}: {error}") from error

    def named(self, name: str) -> Account | None:
        """The account of this name."""
        return self._named.get(name)

    def of_token(self, token: str) -> Account | None:
        """The account that a bearer token proves."""
        return self._tokens.get(token_proof(token))

    def of_password(self, name: str, password: str) -> Account | None:
        """The account that a name and password prove; takes some 50 ms of a CPU."""
        account = self._named.get(name)
        kind, _, proof = (account.proof if account else "").partition(":")
        if kind != "scrypt":  # takes as long as a wrong password
            proof = f"{'0' * 32}:{'0' * 64}"
        salt, _, digest = proof.partition(":")
        given = _scrypt(password, bytes.fromhex(salt))
        return account if hmac.compare_digest(given, digest) else None


def new_token() -> str:
    """A bearer token that nobody can guess."""
    return secrets.token_urlsafe(32)


def token_proof(token: str) -> str:
    """What proves a token: tokens are long and random, so one hash is enough."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def password_proof(password: str) -> str:
    """What proves a password, salted."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_scrypt(password, salt)}"


def entry(account: Account) -> str:
    """The account as the file has it.

    Raises:
        ConfigError: the file could not be read with it.
    """
    key = "token" if account.proof.startswith("sha256:") else "password"
    roles = sorted(account.roles)
    _account(
        account.name, {key: account.proof, "roles": roles, "scopes": account.scopes}
    )
    lines = [
        f"[{json.dumps(account.name)}]",
        f"{key} = {json.dumps(account.proof)}",
        f"roles = {json.dumps(roles)}",
    ]
    if account.scopes != ("*",):
        lines.append(f"scopes = {json.dumps(account.scopes)}")
    return "\n".join(lines)


def _scrypt(password: str, salt: bytes) -> str:
    digest = hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, dklen=32, **_COST
    )
    return digest.hex()


_PROOFS = {
    "token": re.compile(r"sha256:[0-9a-f]{64}"),
    "password": re.compile(r"scrypt:[0-9a-f]{32}:[0-9a-f]{64}"),
}


def _account(name: str, table: Any) -> Account:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of an account")
    if not isinstance(table, Mapping):
        raise ConfigError(f"{name!r} has to be a table: [{name}]")
    unknown = table.keys() - {"token", "password", "roles", "scopes"}
    if unknown:
        raise ConfigError(f"[{name}] has {min(unknown)!r}, which is not known")
    proofs = [key for key in _PROOFS if key in table]
    if len(proofs) != 1:
        raise ConfigError(f"[{name}] needs either a token or a password")
    proof = table[proofs[0]]
    if not isinstance(proof, str) or not _PROOFS[proofs[0]].fullmatch(proof):
        raise ConfigError(
            f"[{name}] {proofs[0]} is no proof: `bgfetch account` makes one"
        )
    scopes = _texts(name, "scopes", table.get("scopes", ["*"]))
    for scope in scopes:
        if not _PATTERN.fullmatch(scope):
            raise ConfigError(f"[{name}] scopes: {scope!r} is no pattern for scopes")
    return Account(name, _roles(name, table.get("roles")), scopes, proof)


def _roles(name: str, given: object) -> frozenset[Role]:
    roles = []
    for role in _texts(name, "roles", given):
        try:
            roles.append(Role(role))
        except ValueError as error:
            known = ", ".join(Role)
            raise ConfigError(f"[{name}] roles: {role!r} is none of {known}") from error
    return frozenset(roles)


def _texts(name: str, key: str, given: Any) -> tuple[str, ...]:
    listed = isinstance(given, list | tuple) and len(given) > 0
    if not listed or not all(isinstance(each, str) for each in given):
        raise ConfigError(f"[{name}] {key} has to be a list of names, got {given!r}")
    return tuple(given)
