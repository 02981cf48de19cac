"""Whether a Redis or Valkey will do, by what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OLDEST_REDIS = (7, 0)


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; it ends with the fix where there is something to mend."""

    name: str
    verdict: Verdict
    finding: str

    def as_json(self) -> dict[str, str]:
        """The finding for a script."""
        return {"name": self.name, "verdict": self.verdict, "finding": self.finding}

    def shown(self) -> tuple[str, ...]:
        """The finding as a row of a table."""
        return (self.verdict, self.name, self.finding)


def server_checks(info: dict[str, Any], url: str) -> list[Check]:
    """Judge what ``INFO`` tells; ``url`` is shown."""
    return [_version(info, url), _eviction(info), append_only(info)]


def _version(info: dict[str, Any], url: str) -> Check:
    kind = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
        told = f"{kind} {version} at {url} is too old: 7.0 is the oldest that will do"
        return Check("redis", Verdict.FAIL, told)
    return Check("redis", Verdict.OK, f"{kind} {version} at {url}")


def _eviction(info: dict[str, Any]) -> Check:
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return Check("eviction", Verdict.OK, "noeviction")
    told = f"{policy} may drop fetches silently: set maxmemory-policy noeviction"
    return Check("eviction", Verdict.WARN, told)


def append_only(info: dict[str, Any]) -> Check:
    """Whether what Redis acknowledges survives it."""
    if not info.get("aof_enabled"):
        told = "off, so that a crash of Redis loses fetches: set appendonly yes"
        return Check("aof", Verdict.WARN, told)
    if info.get("aof_last_write_status", "ok") != "ok":
        told = (
            "Redis cannot write its append-only file, and refuses writes: see its log"
        )
        return Check("aof", Verdict.FAIL, told)
    return Check("aof", Verdict.OK, "every write is in the append-only file")
