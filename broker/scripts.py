"""Lua scripts: every atomic change of state, one file each under ``lua/`` (R22).

A script is sent by its hash and, to a server that does not know it, whole. It may be
sent twice after a lost reply; each is written so that the second run changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

Argument = str | bytes | int
Ask = Callable[..., Awaitable[Any]]
"""Sends one command and returns its answer."""

_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script, its includes put in."""

    name: str
    source: str
    sha: str

    async def run(
        self, ask: Ask, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        """Run it on the server; the reply as Redis gives it, text as bytes."""
        given = (len(keys), *keys, *arguments)
        try:
            return await ask("EVALSHA", self.sha, *given)
        except NoScriptError:
            return await ask("EVAL", self.source, *given)


@cache
def script(name: str) -> Script:
    """Load ``lua/<name>.lua``."""
    source = _read(name)
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())


def _read(name: str) -> str:
    text = (files("broker") / "lua" / f"{name}.lua").read_text()
    return _INCLUDE.sub(lambda found: _read(found[1]), text)
