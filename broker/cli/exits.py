"""How a command ends: its exit code, and one line that says why and what to do."""

from __future__ import annotations

import json
from enum import IntEnum

from schemas.errors import (
    Aborted,
    BackgroundFetchError,
    ConfigError,
    DuplicateFetch,
    Failure,
    NoActiveWorker,
    RejectedFetch,
    StartError,
    Unreachable,
)


class ExitCode(IntEnum):
    """What a command's end tells a script."""

    OK = 0
    NO = 1
    USAGE = 2
    TARGET = 3
    REDIS = 4
    ABORTED = 5
    TIMEOUT = 124
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


# "\b" keeps the lines of a paragraph as they are.
EPILOG = """\
\b
Exit codes:
  0    done
  1    the fetch failed, or the answer is no (unknown id, id in use, too late)
  2    wrong usage: an option, or an argument that fetch() refuses (TypeError)
  3    a MODULE:ATTRIBUTE, a scope name or a setting cannot be used
  4    no Redis answers, and none could be started
  5    the fetch was aborted
  124  --wait-timeout is over; the fetch goes on
  130  ended by Ctrl-C (129: by a hang-up, 143: by TERM)

\b
Data goes to stdout, everything else to stderr. An error is one line there,
with --json one JSON object. --debug, before or after the command, or
BGFETCH_DEBUG=1 shows its traceback too.
"""

# The first class that fits decides.
_CODES: tuple[tuple[type[BackgroundFetchError], ExitCode], ...] = (
    (DuplicateFetch, ExitCode.NO),
    (NoActiveWorker, ExitCode.NO),
    (RejectedFetch, ExitCode.USAGE),
    (ConfigError, ExitCode.TARGET),
    (Unreachable, ExitCode.REDIS),
    (StartError, ExitCode.REDIS),
    (Aborted, ExitCode.ABORTED),
)


class Interrupted(Exception):
    """A signal ended the command, after its children."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.code = 128 + signal_number


class ChildEnded(Exception):
    """A child process can never run, so its parent ends with its exit code."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"the {name} ended with exit code {code}")
        self.code = code


def code_of(error: BackgroundFetchError) -> ExitCode:
    """The exit code of a command that ends with this error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.NO


def told(error: BackgroundFetchError) -> str:
    """The error as one line: with its name in the specification where it has one."""
    message = " ".join(str(error).split()).removesuffix(".")
    if isinstance(error, Unreachable) and "BGFETCH_REDIS_URL" not in message:
        message += "; start it, or name another one in BGFETCH_REDIS_URL"
    return message if isinstance(error, Failure) else f"{error.spec_name}: {message}"


def told_as_json(message: str, code: int, *, name: str, kind: str) -> str:
    """The same as one JSON object: ``error`` is the name in the specification."""
    return json.dumps(
        {
            "error": name,
            "kind": kind,
            "message": " ".join(message.split()),
            "exitCode": code,
        },
        ensure_ascii=False,
    )
