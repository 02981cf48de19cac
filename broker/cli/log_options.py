"""How the log of a command looks, and how much it tells."""

from __future__ import annotations

from enum import StrEnum


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    """For people on a terminal, else JSON."""
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least serious line that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
