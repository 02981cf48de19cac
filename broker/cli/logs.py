"""The log of the commands that stay: one event a line, on stderr, without secrets."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Any

import structlog

from broker.cli.log_options import LogFormat, LogLevel

_URL = re.compile(r"\b(https?|rediss?)://(?:[^\s/'\"@]*@)?([^\s?#'\"]*)(\?[^\s'\"]*)?")


def configure(format: LogFormat, level: LogLevel) -> None:
    """Send every log line of this process to stderr, ours and other libraries'."""
    terminal = sys.stderr.isatty()
    as_json = format is LogFormat.JSON or (format is LogFormat.AUTO and not terminal)
    common: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _without_secrets,
    ]
    last = structlog.processors.JSONRenderer() if as_json else _console(terminal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # RQ's module sets its level itself, and tells of every routine step.
    for name in ("rq", "rq.worker"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _console(terminal: bool) -> structlog.dev.ConsoleRenderer:
    colours = (terminal and os.environ.get("TERM") != "dumb") or bool(
        os.environ.get("FORCE_COLOR")
    )
    return structlog.dev.ConsoleRenderer(
        colors=colours and not os.environ.get("NO_COLOR")
    )


def _without_secrets(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Signed URLs carry their right in the query, others a password before the host."""
    return {key: redacted(value) for key, value in event.items()}


def redacted(value: Any) -> Any:
    """``value``, where it is text without what its URLs grant to who reads them."""
    if isinstance(value, str):
        return _URL.sub(_without_query, value) if "://" in value else value
    return value


def _without_query(match: re.Match[str]) -> str:
    query = "?…" if match[3] else ""
    return f"{match[1]}://{match[2]}{query}"
