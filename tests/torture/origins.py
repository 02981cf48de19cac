"""The origins of a torture: one that misbehaves, and nginx, both on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path

from tests.torture.plan import File, Proof
from workers.demo.origin import Origin

_PATIENCE = 10.0  # s until nginx answers, and until it has ended
_APART = 90  # s between the mtimes of two versions
# nginx ends with its starter, even if that is killed: then stdin closes.
_LEASHED = '"$1" -p "$2" -c nginx.conf & read -r _; kill $!; wait'
_CONFIGURATION = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port};
    root files;
    limit_rate $arg_rate;
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Version:
    """A version that existed: what the bytes are, and by which header it is known."""

    digest: str
    length: int
    header: str
    value: str


class Shelf:
    """One file at its origin, with every version that it has had so far."""

    def __init__(self, origin: Origin, nginx: Nginx | None, path: str, file: File):
        self._origin, self._nginx = origin, nginx
        self._path, self._file = path, file
        self.versions: list[Version] = []
        self.show(0)

    @property
    def url(self) -> str:
        """Where the file is."""
        if self._file.proof is Proof.NGINX and self._nginx:
            return f"{self._nginx.base}{self._path}?rate={self._file.rate or 0}"
        return self._origin.url(self._path)

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The bytes of every version that it has or will have."""
        return self._file.versions

    def show(self, number: int) -> None:
        """Serve this version from now on; answers under way go on as they began."""
        body = self._file.versions[number]
        # In the past, so that a Last-Modified is a proof from the first answer on.
        modified = int(time.time()) - 1_000_000 + _APART * number
        date = format_datetime(datetime.fromtimestamp(modified, UTC), usegmt=True)
        mark = ("", "")
        match self._file.proof:
            case Proof.NGINX:
                mark = ("ETag", f'"{modified:x}-{len(body):x}"')
            case Proof.ETAG:
                mark = ("ETag", f'"{sha256(body).hexdigest()[:32]}"')
            case Proof.DATE:
                mark = ("Last-Modified", date)
        # Noted first: nobody can have seen a version that is not noted.
        self.versions.append(Version(sha256(body).hexdigest(), len(body), *mark))
        if self._file.proof is Proof.NGINX and self._nginx:
            self._nginx.put(self._path, body, modified)
        else:
            self._add(number, body, *mark)

    def clear(self) -> None:
        """Give the bytes up."""
        if self._file.proof is Proof.NGINX and self._nginx:
            self._nginx.remove(self._path)
        else:
            self._origin.add(self._path, b"")

    def _add(self, number: int, body: bytes, header: str, value: str) -> None:
        now = format_datetime(datetime.now(UTC), usegmt=True)
        self._origin.add(
            self._path,
            body,
            etag=value if header == "ETag" else "",
            last_modified=value if header == "Last-Modified" else None,
            headers={"Date": now},
            rate=self._file.rate,
            cut_after=() if number else self._file.cuts,
            fail_first=[(503, {})] * (0 if number else self._file.refusals),
        )


class Nginx:
    """A running nginx; its files are replaced at one stroke."""

    def __init__(self, base: str, files: Path) -> None:
        self.base = base
        self._files = files

    def put(self, path: str, body: bytes, modified: int) -> None:
        """Serve ``body`` at ``path``, last modified then."""
        target = self._files / path.lstrip("/")
        target.parent.mkdir(exist_ok=True)
        draft = target.with_suffix(".draft")
        draft.write_bytes(body)
        os.utime(draft, (modified, modified))
        draft.replace(target)

    def remove(self, path: str) -> None:
        """Serve nothing at ``path``."""
        (self._files / path.lstrip("/")).unlink()


@contextmanager
def nginx_at(program: str, directory: Path) -> Iterator[Nginx]:
    """Run nginx in ``directory`` until the context ends."""
    (directory / "files").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (directory / "nginx.conf").write_text(_CONFIGURATION.format(port=port))
    process = subprocess.Popen(
        ["sh", "-c", _LEASHED, "nginx", program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        _await(process, port)
        yield Nginx(f"http://127.0.0.1:{port}", directory / "files")
    finally:
        process.stdin.close()
        process.wait(_PATIENCE)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"nginx does not start: {process.args!r}")
