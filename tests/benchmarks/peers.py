"""The peers of a download benchmark: aria2 and curl, as their users run them."""

from __future__ import annotations

import shutil
from pathlib import Path

from typing_extensions import override

from tests.benchmarks.measure import Sample, find_program, run_program
from tests.benchmarks.origin import Origin

AT_ONCE = 32
"""Files at a time, as many as one of our lanes transfers."""


class _Peer:
    """A program that downloads all files of an origin into a fresh directory."""

    name: str

    def __init__(
        self, program: str, origin: Origin, directory: Path, *, hashed: bool
    ) -> None:
        """``hashed``: it computes the sha256 of every file as well."""
        self._program = program
        self._hashed = hashed
        self._origin = origin
        self._target = directory / self.name
        self._list = directory / f"{self.name}.list"
        self._sha256 = origin.sha256 if hashed else ""

    def run(self) -> Sample:
        """Download everything, and delete it again off the clock."""
        self._target.mkdir()
        try:
            sample = self._download()
            self._origin.check(self._target)
        finally:
            shutil.rmtree(self._target)
        return sample

    def _download(self) -> Sample:
        return run_program(self._command())

    def _command(self) -> list[str]:
        raise NotImplementedError


class Aria2(_Peer):
    """``aria2c -j32``; without preallocation, which only costs it time here."""

    name = "aria2"

    @override
    def _command(self) -> list[str]:
        option = f"\n checksum=sha-256={self._sha256}" if self._hashed else ""
        self._list.write_text("".join(f"{u}{option}\n" for u in self._origin.urls))
        return [
            self._program,
            "--no-conf",
            "--quiet",
            "--file-allocation=none",
            f"-j{AT_ONCE}",
            f"--input-file={self._list}",
            f"--dir={self._target}",
        ]


class Curl(_Peer):
    """``curl --parallel`` with as many transfers at a time."""

    name = "curl"

    @override
    def _command(self) -> list[str]:
        lines = [
            f'url = "{url}"\noutput = "{self._target / url.rpartition("/")[2]}"'
            for url in self._origin.urls
        ]
        self._list.write_text("\n".join(lines))
        return [
            self._program,
            "--disable",
            "--silent",
            "--show-error",
            "--fail",
            "--parallel",
            "--parallel-max",
            str(AT_ONCE),
            "--config",
            str(self._list),
        ]


class CurlAndSha256sum(Curl):
    """The same, and then ``sha256sum`` of every file that came."""

    name = "curl+sha256sum"

    @override
    def _download(self) -> Sample:
        first = super()._download()
        files = [
            str(self._target / url.rpartition("/")[2]) for url in self._origin.urls
        ]
        second = run_program(["sha256sum", *files])
        return Sample(first.wall + second.wall, first.cpu + second.cpu)


def find_peers(
    origin: Origin, directory: Path, *, hashed: bool
) -> tuple[list[_Peer], list[str]]:
    """Return the peers that are installed, and the names of those that are not."""
    curl = CurlAndSha256sum if hashed else Curl
    found: list[_Peer] = []
    missing: list[str] = []
    for program, peer in (("aria2c", Aria2), ("curl", curl)):
        path = find_program(program)
        if path is None or (peer is CurlAndSha256sum and not find_program("sha256sum")):
            missing.append(peer.name)
        else:
            found.append(peer(path, origin, directory, hashed=hashed))
    return found, missing
