"""Secrets by reference: a worker's own, for its origins, and never anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.manager import BackgroundFetchManager
from broker.record import BackgroundFetchRecord
from broker.settings import Settings
from schemas.requests import Request
from tests.integration.clock import SCOPE
from workers.demo.origin import Origin
from workers.engine import Engine
from workers.exchange import Fault, TransferError
from workers.secrets import MAX_BYTES, Secrets

VALUE = "hunter2-hunter2-hunter2"
BODY = b"x" * 1000


@pytest.fixture
def directory(tmp_path: Path, origin: Origin) -> Path:
    """The secret ``github``, for the origin alone."""
    found = tmp_path / "secrets"
    found.mkdir()
    (found / "github").write_text(f"{VALUE}\n")
    (found / "github.origins").write_text(f"# ours\n\n{origin.url('')}  # the API\n")
    return found


@pytest.fixture
async def engine(settings: Settings, directory: Path) -> AsyncIterator[Engine]:
    engine = Engine(
        settings.model_copy(update={"secrets_dir": directory}), reclaiming=False
    )
    await engine.start()
    yield engine
    await engine.aclose()


async def perform(
    manager: BackgroundFetchManager, engine: Engine, request: Request
) -> BackgroundFetchRecord:
    registration = await manager.fetch("x", request)
    async with asyncio.timeout(20):
        await engine.perform(SCOPE, registration.uid, "job")
    [record] = await registration.match_all()
    return await record.refresh()


async def everything_in(redis: Any) -> bytes:
    """All names and values of a server, as text that can be searched."""
    found: list[object] = []
    for key in await redis.keys("*"):
        read = {
            b"hash": redis.hgetall,
            b"string": redis.get,
            b"set": redis.smembers,
            b"zset": lambda key: redis.zrange(key, 0, -1),
            b"list": lambda key: redis.lrange(key, 0, -1),
            b"stream": redis.xrange,
        }[await redis.type(key)]
        found += [key, await read(key)]
    return repr(found).encode()


async def test_a_secret_reaches_its_origin_and_is_stored_nowhere(
    manager: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
    settings: Settings,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The attempt after a broken one names it anew."""
    origin.add("/a", BODY, cut_after=[100])
    headers = {"Authorization": "Bearer secret:github", "X-Note": "secret::kept"}

    record = await perform(manager, engine, Request(origin.url("/a"), headers=headers))

    assert record.result == "success"
    sent = [seen.headers for seen in origin.log]
    assert [each["authorization"] for each in sent] == [f"Bearer {VALUE}"] * 2
    assert sent[0]["x-note"] == "secret:kept"
    stored = await everything_in(manager.connection.redis)
    assert b"secret:github" in stored
    assert VALUE.encode() not in stored
    assert VALUE not in "".join(capfd.readouterr())
    files = [path for path in settings.store_directory.rglob("*") if path.is_file()]
    assert not any(VALUE.encode() in path.read_bytes() for path in files)


async def test_a_producer_cannot_send_a_secret_to_an_origin_of_its_own(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    async with Origin() as evil:
        evil.add("/a", BODY)
        request = Request(evil.url("/a"), headers={"X": "secret:github"})

        record = await perform(manager, engine, request)

    assert record.result == "fetch-error"
    assert "the secret 'github' may not go to http://127.0.0.1" in record.failure_reason
    assert "github.origins does not name it" in record.failure_reason
    assert evil.connections == 0


async def test_a_redirect_takes_no_secret_to_another_origin(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-SEC-11, faults 28: by whatever header; within its origin it stays."""
    async with Origin() as other:
        other.add("/c", BODY)
        origin.add("/a", b"", status=302, headers={"Location": "/b"})
        origin.add("/b", b"", status=302, headers={"Location": other.url("/c")})
        request = Request(origin.url("/a"), headers={"X-Ours": "secret:github"})

        record = await perform(manager, engine, request)

        assert record.result == "success"
        assert [seen.headers.get("x-ours") for seen in origin.log] == [VALUE, VALUE]
        assert [seen.headers.get("x-ours") for seen in other.log] == [None]


async def test_an_unknown_secret_fails_the_record_with_its_name_and_place(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin, directory: Path
) -> None:
    request = Request(origin.url("/a"), headers={"X": "secret:gitlab"})

    record = await perform(manager, engine, request)

    assert record.result == "fetch-error"
    assert record.failure_reason == (
        f"forbidden: the secret 'gitlab' cannot be read from {directory / 'gitlab'} "
        "(BGFETCH_SECRETS_DIR): No such file or directory"
    )
    assert origin.connections == 0


def refused(directory: Path | None, url: str = "https://a.example/x") -> str:
    with pytest.raises(TransferError) as failed:
        Secrets(directory).headers(Request(url, headers={"X": "secret:s"}), "news")
    assert failed.value.fault is Fault.FORBIDDEN
    assert VALUE not in str(failed.value)
    return failed.value.detail


def test_a_worker_without_secrets_says_so() -> None:
    assert "this worker has no BGFETCH_SECRETS_DIR" in refused(None)


@pytest.mark.parametrize(
    ("secret", "origins", "reason"),
    [
        (VALUE, None, "cannot be read from"),
        (VALUE, "", "may not go to https://a.example"),
        (VALUE, "https://b.example", "may not go to https://a.example"),
        (VALUE, "http://a.example", "may not go to https://a.example"),
        (VALUE, "https://a.example:8443", "may not go to https://a.example"),
        (VALUE, "https://a.example.evil.example", "may not go to https://a.example"),
        (VALUE, "https://a.example/path", "is no origin: 'https://a.example/path'"),
        (VALUE, "https://a.example ours", "may not go to https://a.example for scope"),
        (VALUE, "*", "has an unusable line in"),
        ("", "https://a.example", "must be one line, and not empty"),
        (f"{VALUE}\r\nX-Evil: 1", "https://a.example", "must be one line"),
        (f"{VALUE}\0", "https://a.example", "must be one line"),
        (VALUE * MAX_BYTES, "https://a.example", f"over {MAX_BYTES} bytes"),
    ],
)
def test_a_secret_that_may_not_or_cannot_be_sent_is_refused(
    tmp_path: Path, secret: str, origins: str | None, reason: str
) -> None:
    (tmp_path / "s").write_bytes(secret.encode())
    if origins is not None:
        (tmp_path / "s.origins").write_text(origins)

    assert reason in refused(tmp_path)


def test_a_secret_is_for_the_scopes_that_are_named_with_an_origin(
    tmp_path: Path,
) -> None:
    """Another scope's fetches would act in its owner's name."""
    (tmp_path / "s").write_text(VALUE)
    lines = "https://a.example ours podcasts # and\nhttps://a.example  third\n"
    (tmp_path / "s.origins").write_text(lines + "https://all.example")
    secrets = Secrets(tmp_path)

    for url, scope, may in [
        ("https://a.example/", "ours", True),
        ("https://a.example/", "podcasts", True),
        ("https://a.example/", "third", True),
        ("https://a.example/", "our", False),
        ("https://all.example/", "our", True),
    ]:
        request = Request(url, headers={"X": "secret:s"})
        if may:
            assert secrets.headers(request, scope) == (("X", VALUE),)
        else:
            with pytest.raises(TransferError, match=f"for scope '{scope}'"):
                secrets.headers(request, scope)


def test_a_secret_that_was_changed_is_in_force_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.origins").write_text("HTTPS://A.example:443/\r\nhttps://b.example")
    request = Request("https://a.example/", headers={"X": "secret:s"})
    secrets = Secrets(tmp_path)

    for value in ("one", "zwölf"):
        (tmp_path / "s").write_text(value)
        [(_, sent)] = secrets.headers(request, "news")
        assert sent.encode("latin-1") == value.encode()
