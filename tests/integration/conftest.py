"""What integration tests share: settings, a manager, and ways to let time pass."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.blobs import Durability
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from tests.integration.clock import SCOPE, Clock
from tests.integration.s3 import make_bucket, s3_server
from tests.integration.trial import Trials, trials


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
