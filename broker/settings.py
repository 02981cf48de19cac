"""Every setting, its default and its meaning; read from ``BGFETCH_*`` at the edge.

Durations are seconds in the environment (``BGFETCH_LEASE=10``) and ``timedelta`` here.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from broker.codings import DecodingLimits
from broker.embedded import EmbeddedServer, data_directory
from broker.store import Durability
from schemas.addresses import AddressPolicy
from schemas.errors import ConfigError, Unreachable
from schemas.proxies import Proxy
from schemas.records import Digest
from schemas.sizes import parse_size


def _seconds(value: object) -> object:
    return timedelta(seconds=float(value)) if isinstance(value, str) else value


def _bytes(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]
Rate = Annotated[int, BeforeValidator(_bytes), Field(ge=1024)]
Seconds = Annotated[timedelta, BeforeValidator(_seconds), Field(ge=timedelta(0))]

_MILLISECOND = timedelta(milliseconds=1)


class Settings(BaseSettings):
    """What may be tuned; frozen, passed down from the process's edge."""

    model_config = SettingsConfigDict(
        env_prefix="BGFETCH_", frozen=True, extra="ignore"
    )

    redis_url: str | None = Field(None, description="where Redis or Valkey is")
    base_url: str = Field(
        "http://localhost:8780/", description="what relative URLs resolve against"
    )
    store: Path | str | None = Field(
        None, description="the blob store: a directory, or a URL (s3, gs, az)"
    )
    durability: Durability = Field(
        Durability.FULL, description="when bytes are forced to disk: full, boot or none"
    )
    digest: Digest = Field(
        Digest.SHA256, description="what is computed of every body: sha256 or none"
    )
    allow_networks: Annotated[AddressPolicy, NoDecode] = Field(
        AddressPolicy(), description="networks that workers may reach though not public"
    )
    proxy: Annotated[Proxy | None, NoDecode] = Field(
        None, description="proxy of all transfers: http, https or socks5h://HOST:PORT"
    )
    proxy_resolves: bool = Field(
        False, description="whether the proxy looks names up, once they passed here"
    )
    secrets_dir: Path | None = Field(
        None, description="directory of the secrets that request headers may name"
    )
    max_rate: Rate | None = Field(
        None, description="bytes a second of a worker process, both ways, as 20M"
    )
    max_transfer_rate: Rate | None = Field(
        None, description="bytes a second of one transfer, as 2M or 512KiB"
    )

    max_json: Size = Field(
        32 * 1024**2, description="bytes of JSON in one request to the gateway"
    )

    lease: Seconds = Field(
        timedelta(seconds=10), description="how long a right lasts without renewal"
    )
    progress_interval: Seconds = Field(
        timedelta(milliseconds=250), description="least time between progress messages"
    )
    checkpoint_interval: Seconds = Field(
        timedelta(seconds=2), description="how often a lane makes its bytes resumable"
    )
    concurrency: int = Field(16, ge=1, le=1024, description="lanes in a worker process")
    transfers: int = Field(32, ge=1, le=1024, description="transfers in one lane")
    lane_size: int = Field(1000, ge=1, description="open records for each lane")
    max_lanes: int = Field(8, ge=1, le=64, description="lanes of one fetch at most")
    scope_lanes: int = Field(
        128, ge=1, description="lanes of one scope and priority at most, queued or busy"
    )

    segments: int = Field(
        1, ge=1, le=32, description="streams that bring one large file; 1: no segments"
    )
    segment_size: Size = Field(
        8 * 1024**2, ge=16 * 1024, description="bytes of a segment at least, as 8MiB"
    )

    connect_timeout: Seconds = Field(
        timedelta(seconds=10), description="time to reach an origin"
    )
    first_byte_timeout: Seconds = Field(
        timedelta(seconds=30), description="time from request to response head"
    )
    stall_timeout: Seconds = Field(
        timedelta(seconds=30), description="time without a byte that ends an attempt"
    )
    max_attempts: int = Field(8, ge=1, description="attempts without a new byte")
    backoff: Seconds = Field(
        timedelta(seconds=1), description="first wait before another attempt"
    )
    max_backoff: Seconds = Field(
        timedelta(seconds=60), description="longest wait of our own choice"
    )
    max_retry_after: Seconds = Field(
        timedelta(hours=1), description="longest wait that an origin may ask for"
    )
    deadline: Seconds = Field(
        timedelta(hours=24), description="time after which a fetch gives up"
    )
    record_deadline: Seconds | None = Field(
        None, description="time from its first attempt after which a record gives up"
    )
    max_record_bytes: Size | None = Field(
        None, description="bytes that one record may have, as 2GiB"
    )

    origin_connections: int = Field(
        32, ge=1, le=1024, description="exchanges with one origin, of all workers"
    )
    origin_rate: float | None = Field(
        None, ge=0.001, description="requests per second to one origin, of all workers"
    )
    origin_recovery: Seconds = Field(
        timedelta(seconds=10),
        description="how often a lowered limit of an origin rises by one",
    )

    max_deliveries: int = Field(20, ge=1, description="failures before a dead letter")
    redelivery_backoff: Seconds = Field(
        timedelta(seconds=1), description="first wait before a redelivery"
    )
    max_redelivery_backoff: Seconds = Field(
        timedelta(minutes=5), description="longest wait before a redelivery"
    )
    max_lifetime: Seconds | None = Field(
        None, description="how long an event may be handled; none: as long as it takes"
    )
    handlers: int = Field(100, ge=1, description="events handled at once in a process")
    grace: Seconds = Field(
        timedelta(seconds=30), description="time that a stopping process gives its work"
    )

    max_decoded: int = Field(
        8 * 1024**3, ge=1, description="bytes that a coded body may become when read"
    )
    max_decoded_ratio: int = Field(
        200, ge=1, description="the same for each byte sent, beyond the first MiB"
    )

    accounts: Path | None = Field(
        None, description="the gateway's accounts, a TOML file; none: all may do all"
    )
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names of the gateway beside addresses and localhost, a,b"
    )
    read_only: bool = Field(False, description="whether the gateway refuses writes")
    write_rate: float = Field(
        50, gt=0, description="writes a second of one account in a gateway process"
    )
    environment: str | None = Field(
        None, description="shown on every page of the dashboard, as production"
    )

    retention: Seconds = Field(
        timedelta(days=7), description="how long a settled fetch stays listed"
    )
    release_grace: Seconds = Field(
        timedelta(seconds=60), description="time between release and deletion of bytes"
    )

    @field_validator("allow_networks", mode="before")
    @classmethod
    def _parse_networks(cls, value: object) -> object:
        return AddressPolicy.parse(value) if isinstance(value, str) else value

    @field_validator("hosts", mode="before")
    @classmethod
    def _parse_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(filter(None, (name.strip() for name in value.split(","))))
        return value

    @field_validator("proxy", mode="before")
    @classmethod
    def _parse_proxy(cls, value: object) -> object:
        if isinstance(value, str):
            return Proxy.parse(value) if value.strip() else None
        return value

    @classmethod
    def load(cls, **overrides: object) -> Settings:
        """Read the environment; ``overrides`` that are not None win.

        Raises:
            ConfigError: a value cannot be used; the message names it.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise ConfigError(
                f"BGFETCH_{name}={first['input']!r}: {first['msg']}"
            ) from error

    @property
    def store_directory(self) -> Path:
        """Where blobs are kept: ``BGFETCH_STORE``, else the user's data directory."""
        return Path(self.store) if self.store else data_directory() / "blobs"

    @property
    def store_url(self) -> str | None:
        """Where blobs are kept if it is no directory."""
        store = self.store
        return store if isinstance(store, str) and "://" in store else None

    @property
    def store_place(self) -> str:
        """Where blobs are kept, as every process on this machine may be told."""
        return self.store_url or os.fspath(self.store_directory.absolute())

    @property
    def decoding(self) -> DecodingLimits:
        """How large a coded body may become."""
        return DecodingLimits(self.max_decoded, self.max_decoded_ratio)

    def found_redis(self, url: str | None = None) -> str:
        """Return the URL to use: given, configured, or of the server that runs here.

        Raises:
            Unreachable: there is none.
        """
        found = url or self.redis_url or EmbeddedServer.running_in(data_directory())
        if found is None:
            raise Unreachable(
                "no Redis: set BGFETCH_REDIS_URL, or run `bgfetch up` on this machine"
            )
        return found


def settings_table() -> str:
    """The settings as a Markdown table; the README repeats it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        shown = _shown(field.default)
        rows.append(f"| `BGFETCH_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def _shown(default: object) -> str:
    if isinstance(default, timedelta):
        return f"{default.total_seconds():g} s"
    if default is None or default == () or isinstance(default, AddressPolicy):
        return "none"
    return f"`{default}`"


def milliseconds(duration: timedelta) -> int:
    """Whole milliseconds, as scripts count them."""
    return round(duration / _MILLISECOND)
