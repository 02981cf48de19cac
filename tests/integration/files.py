"""What tests of files in a blob store share."""

from __future__ import annotations

import os
import resource
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from broker.blobs import DirectoryStore, Part

BODY = bytes(range(256)) * 16
LARGE = secrets.token_bytes(1_500_000)


def watched_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the system calls made from here on, in order."""
    seen: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("open", "pwrite", "pwritev", "pread", "rename", "close", "stat"):
        watch(name)
    for name in ("fstat", "fdatasync", "fsync"):
        watch(name)
    return seen


def written(store: DirectoryStore, body: bytes = BODY, step: int = 16_384) -> Part:
    """A part with this body, not finished."""
    part = store.create()
    for start in range(0, len(body), step):
        part.write(body[start : start + step])
    return part


def content(store: DirectoryStore, name: str) -> bytes:
    """The bytes of a part or blob."""
    with store.reader(name) as reader:
        return reader.read_at(0, 1 << 24)


def places(store: DirectoryStore, name: str) -> list[str]:
    """Which of the store's folders has a file of this name."""
    return [p for p in ("parts", "blobs") if (store.directory / p / name).exists()]


def failing(code: int) -> Callable[[int], None]:
    """A system call on a descriptor that fails."""

    def call(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    return call


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    """Lower a limit of this process for a while."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)
