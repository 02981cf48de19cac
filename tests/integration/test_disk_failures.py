"""A disk that refuses one file: a clear reason, and no harm to others (faults 70-71).

The failures are those of the system calls, of one record's file alone.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.blobs import Durability
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE
from workers.demo.origin import Origin
from workers.engine import Engine

VICTIM = b"VICTIM" + bytes(2_000_000)
GOOD = [b"good" + bytes(n) for n in (0, 5_000, 1_500_000)]


def of_victim(call: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a system call is about the victim's file."""
    first = arguments[0]
    if call == "pwritev":
        return bytes(arguments[1][0][:6]) == VICTIM[:6]
    if call == "fdatasync":
        return os.pread(first, 6, 0) == VICTIM[:6]
    with Path(first).open("rb") as file:
        return file.read(6) == VICTIM[:6]


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    """Have one system call fail for the victim's file."""
    real: Callable[..., Any] = getattr(os, call)

    def refusing(*arguments: Any) -> Any:
        if of_victim(call, arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(os, call, refusing)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"durability": Durability.FULL})


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        for n, body in enumerate(GOOD):
            running.add(f"/{n}", body)
        running.add("/victim", VICTIM)
        yield running


async def fetched(
    manager: BackgroundFetchManager, engine: Engine, id: str, urls: list[str]
) -> tuple[str, list[str], list[bytes]]:
    """Fetch; return why it failed, why each record did, and the bodies of the rest."""
    registration = await manager.fetch(id, urls)
    async with asyncio.timeout(60):
        await engine.perform(SCOPE, registration.uid, "job")
    await registration.refresh()
    records = await registration.match_all()
    reasons = [(await record.refresh()).failure_reason for record in records]
    bodies = [
        await (await record.response_ready).read()
        for record, reason in zip(records, reasons, strict=True)
        if not reason
    ]
    return registration.failure_reason, reasons, bodies


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("pwritev", errno.ENOSPC, "quota-exceeded"),
        ("pwritev", errno.EDQUOT, "quota-exceeded"),
        ("pwritev", errno.EIO, "fetch-error"),
        ("pwritev", errno.EROFS, "fetch-error"),
        ("fdatasync", errno.ENOSPC, "quota-exceeded"),
        ("fdatasync", errno.EIO, "fetch-error"),
        ("rename", errno.EROFS, "fetch-error"),
        ("rename", errno.ENOSPC, "quota-exceeded"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else None,
)
async def test_the_record_whose_file_is_refused_fails_alone(
    manager: BackgroundFetchManager,
    engine: Engine,
    settings: Settings,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    reason: str,
) -> None:
    """BF-REC-17: no half blob can be seen, and nothing of it is left behind."""
    urls = [origin.url(path) for path in ("/0", "/victim", "/1", "/2")]
    with monkeypatch.context() as patch:
        refuse(patch, call, code)
        why, reasons, bodies = await fetched(manager, engine, "x", urls)
    blobs = list((settings.store_directory / "blobs").iterdir())
    parts = list((settings.store_directory / "parts").iterdir())
    again = await fetched(manager, engine, "y", urls)

    assert why == reason
    assert [bool(each) for each in reasons] == [False, True, False, False]
    assert reasons[1].startswith(f"{errno.errorcode[code]} ({os.strerror(code)}): ")
    assert bodies == GOOD
    assert len(blobs) == len(GOOD)
    assert parts == []
    assert again == ("", [""] * 4, [GOOD[0], VICTIM, *GOOD[1:]])


async def test_a_process_without_descriptors_fails_what_it_cannot_store(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 71: EMFILE, for one of several files."""
    real, refused = os.open, False

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        nonlocal refused
        if flags & os.O_CREAT and "/parts/" in str(path) and not refused:
            refused = True
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, flags, *more, **named)

    urls = [origin.url(path) for path in ("/0", "/victim", "/1", "/2")]
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        why, reasons, bodies = await fetched(manager, engine, "x", urls)
    again = await fetched(manager, engine, "y", urls)

    assert why == "fetch-error"
    [told] = filter(None, reasons)
    assert told.startswith("EMFILE (Too many open files): ")
    assert len(bodies) == 3
    assert again[0] == ""
