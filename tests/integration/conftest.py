"""What integration tests share: settings, a manager, and ways to let time pass."""

from __future__ import annotations

import io
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient
from playwright.async_api import Browser, async_playwright

from broker.blobs import Durability
from broker.cli.app import command_line, run
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.addresses import AddressPolicy
from tests.integration.clock import SCOPE, Clock
from tests.integration.commands import Bgfetch
from tests.integration.delivering import Process
from tests.integration.s3 import make_bucket, s3_server
from tests.integration.serving import serving
from tests.integration.trial import Trials, trials
from workers.demo.origin import Origin
from workers.engine import Engine


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a process on this test's own server and store."""
    return Settings(
        redis_url=redis_url,
        store=tmp_path / "store",
        durability=Durability.NONE,
        allow_networks=AddressPolicy.parse("loopback"),
        lease=timedelta(seconds=10),
        backoff=timedelta(milliseconds=20),
        redelivery_backoff=timedelta(milliseconds=20),
        progress_interval=timedelta(milliseconds=50),
    )


@pytest.fixture
async def manager(settings: Settings) -> AsyncIterator[BackgroundFetchManager]:
    """The background fetches of one scope."""
    async with connect(scope=SCOPE, settings=settings) as opened:
        yield opened


@pytest.fixture
def clock(manager: BackgroundFetchManager) -> Clock:
    """Time, as tests move it."""
    return Clock(manager)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """A small real origin."""
    async with Origin() as running:
        yield running


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """What carries lanes in a worker process; nobody else looks at the agenda."""
    engine = Engine(settings, reclaiming=False)
    await engine.start()
    yield engine
    await engine.aclose()


@pytest.fixture
async def process(
    manager: BackgroundFetchManager, settings: Settings
) -> AsyncIterator[Process]:
    """Return a function that starts one more process of a subscriber."""
    async with AsyncExitStack() as stack:

        async def start(name: str = "a", **options: Any) -> Subscription:
            subscription = Subscription(
                manager.connection, settings, SCOPE, name, **options
            )
            await subscription.join()
            stack.push_async_callback(subscription.aclose)
            return subscription

        yield start


@pytest.fixture
def subscribers(manager: BackgroundFetchManager) -> Subscribers:
    """The subscribers of the scope."""
    return Subscribers(manager.connection, manager.settings, SCOPE)


@pytest.fixture
def bgfetch(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bgfetch:
    """Return a function that runs one command in this process."""
    monkeypatch.setenv("BGFETCH_REDIS_URL", settings.redis_url or "")
    monkeypatch.setenv("BGFETCH_SCOPE", SCOPE)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in ("FORCE_COLOR", "NO_COLOR", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(command_line(), ["never", "started"], arguments)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[AsyncClient]:
    """A client of a gateway that runs in this process, on a port of its own."""
    async with serving(settings) as client:
        yield client


@pytest.fixture
async def chromium(tool: Callable[[str], str]) -> AsyncIterator[Browser]:
    """A real browser."""
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=tool("chromium"), args=["--no-sandbox"]
        ) as browser,
    ):
        yield browser


@pytest.fixture
def trial(settings: Settings) -> Trials:
    """Workers under settings of their own, and what becomes of records there."""
    return trials(settings)


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """A server of the S3 protocol that asks for no credentials in particular."""
    with s3_server() as address:
        yield address


@pytest.fixture
def s3_url(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store in an empty bucket, with credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = f"bucket-{secrets.token_hex(8)}"
    make_bucket(s3_address, bucket)
    return f"s3://{bucket}/some/prefix?endpoint={s3_address}&region=us-east-1"
