"""What tests of the command line call."""

from __future__ import annotations

from collections.abc import Callable

Bgfetch = Callable[..., tuple[int, str, str]]
"""Runs one command; returns its exit code, stdout and stderr."""
