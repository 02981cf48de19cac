"""What every test may ask for: a Redis server of its own, and optional programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from broker.embedded import EmbeddedServer

# Optional programs: the names they go by, and what apt-get calls the package.
TOOLS = {
    "aria2c": (("aria2c",), "aria2"),
    "chromium": (("chromium", "chromium-browser", "google-chrome"), "chromium"),
    "curl": (("curl",), "curl"),
    "ip": (("ip",), "iproute2"),
    "node": (("node", "nodejs"), "nodejs"),
    "nginx": (("nginx",), "nginx-light"),
    "openssl": (("openssl",), "openssl"),
    "redis-server": (("redis-server",), "redis-server"),
    "unshare": (("unshare",), "util-linux"),
}
NEEDS = "needs "

# How long an example takes tells of the machine, not of the project.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker for tests that need an optional program."""
    config.addinivalue_line(
        "markers",
        "tool(name): needs an optional program; skipped without it, an error under "
        "'run.py test --all'",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs of the test's ``tool`` markers."""
    for marker in item.iter_markers("tool"):
        find_tool(*marker.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the tests skipped for want of a program, above pytest's closing line."""
    reasons = [
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    ]
    wanted = [reason for reason in reasons if reason.startswith(NEEDS)]
    if wanted:
        each = "; ".join(sorted(set(wanted)))
        terminalreporter.write_line(f"without their programs: {len(wanted)} ({each})")


def find_tool(name: str) -> str:
    """Return the path of an optional program; skip the test, or fail it, without."""
    names, package = TOOLS[name]
    # Debian keeps servers where an ordinary user's PATH does not look.
    places = os.pathsep.join(
        [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    )
    for candidate in names:
        if path := shutil.which(candidate, path=places):
            return path
    reason = f"{NEEDS}{name} (apt-get install {package})"
    if os.environ.get("BGFETCH_TEST_ALL") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return the function that finds an optional program by name."""
    return find_tool


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the only event loop that the project supports."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One server for each process that runs tests."""
    directory: Path = tmp_path_factory.mktemp("redis")
    with EmbeddedServer.start(directory, die_with_parent=True) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedServer) -> str:
    """Return the address of an empty server, this process's alone."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url
