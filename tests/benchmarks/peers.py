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

    def __init__(self, program: str, origin: Origin, directory: Path) -> None:
        self._program = program
        self._origin = origin
        self._target = directory / self.name
        self._list = directory / f"{self.name}.list"

    def run(self) -> Sample:
        """Download everything, and delete it again off the clock."""
        self._target.mkdir()
        try:
            sample = run_program(self._command())
            self._origin.check(self._target)
        finally:
            shutil.rmtree(self._target)
        return sample

    def _command(self) -> list[str]:
        raise NotImplementedError


class Aria2(_Peer):
    """``aria2c -j32``; without preallocation, which only costs it time here."""

    name = "aria2"

    @override
    def _command(self) -> list[str]:
        self._list.write_text("\n".join(self._origin.urls))
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


PROGRAMS: dict[str, type[_Peer]] = {"aria2c": Aria2, "curl": Curl}


def find_peers(origin: Origin, directory: Path) -> tuple[list[_Peer], list[str]]:
    """Return the peers that are installed, and the names of those that are not."""
    found, missing = [], []
    for program, peer in PROGRAMS.items():
        path = find_program(program)
        if path is None:
            missing.append(peer.name)
        else:
            found.append(peer(path, origin, directory))
    return found, missing
