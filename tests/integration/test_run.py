"""run.py: installs once, whole or not at all, and then becomes the command.

A stand-in for uv makes the environments here, so that no test needs a network; its
Python is a shell script that tells how it was called.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTEST = ["-m", "pytest", "-o", "cache_dir=CACHE/pytest", "-n", "auto"]
PYTEST += ["--maxprocesses", "8"]
UV = """#!/bin/sh
echo "$@" >>"$CALLS"
[ "$1" = venv ] || exit 0
for directory; do :; done
mkdir -p "$directory/bin"
cat >"$directory/bin/python" <<'END'
#!/bin/sh
echo "BGFETCH_TEST_ALL=$BGFETCH_TEST_ALL in $(pwd)"
for argument; do echo "[$argument]"; done
exit 7
END
chmod +x "$directory/bin/python"
[ -z "$HELD" ] || { echo held >"$HELD"; read -r go <"$HELD"; }
"""


@dataclass
class Checkout:
    """A copy of the project's installing half, and an environment to run it in."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> list[str]:
        """What uv was asked, a line each."""
        return Path(self.variables["CALLS"]).read_text().splitlines()

    @contextmanager
    def started(
        self, *arguments: str, **variables: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Start run.py in a process group of its own, which ends with the block."""
        with subprocess.Popen(
            [sys.executable, self.path / "run.py", *arguments],
            env=self.variables | variables,
            cwd=self.path.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run run.py and return its exit code, stdout and stderr."""
        with self.started(*arguments, **variables) as process:
            told, said = process.communicate()
        return process.returncode, told, said


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout whose path has a space, an empty HOME, and a stand-in uv."""
    path = tmp_path / "a checkout"
    path.mkdir()
    for name in ("run.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text(UV)
    (programs / "uv").chmod(0o755)
    (tmp_path / "calls").touch()
    return Checkout(
        path,
        {
            "PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": "",
            "CALLS": str(tmp_path / "calls"),
        },
    )


def test_the_first_start_installs_and_the_second_only_runs(checkout: Checkout) -> None:
    first = checkout.run("fetch", "a b", "--json")
    installed = checkout.calls
    second = checkout.run("fetch", "a b", "--json")

    script = checkout.path / ".venv" / "bin" / "bgfetch"
    told = f"[{script}]\n[fetch]\n[a b]\n[--json]\n"
    assert first[:2] == second[:2]
    assert first[0] == 7
    assert first[1].endswith(f"in {checkout.path.parent}\n{told}")
    assert second[2] == ""
    assert len(first[2].splitlines()) == 2
    assert [call.split()[0] for call in installed] == ["venv", "pip", "pip"]
    assert "--require-hashes" in installed[1]
    assert "--no-deps --no-build-isolation -e" in installed[2]
    assert checkout.calls == installed


def test_a_new_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.run("list")
    with open(checkout.path / "requirements.lock", "a") as lock:
        lock.write("# newer\n")

    checkout.run("list")

    assert [call.split()[0] for call in checkout.calls[3:]] == ["pip", "pip"]


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.run("list")
    old = checkout.path / ".venv" / "old"
    old.touch()
    moved = Checkout(checkout.path.with_name("moved"), checkout.variables)
    checkout.path.rename(moved.path)

    code, told, _ = moved.run("list")

    assert code == 7
    assert str(moved.path) in told
    assert not (moved.path / ".venv" / "old").exists()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_installation_is_begun_again(
    sent: signal.Signals, checkout: Checkout, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    with checkout.started("list", HELD=str(held)) as process:
        held.read_text()  # uv has made half an environment
        os.killpg(process.pid, sent)
        process.communicate()
    half = checkout.path / ".venv" / "half"
    half.touch()

    code, _, _ = checkout.run("list")

    assert process.returncode == (130 if sent is signal.SIGINT else -sent)
    assert code == 7
    assert not half.exists()
    assert [call.split()[0] for call in checkout.calls] == [
        "venv",
        "venv",
        "pip",
        "pip",
    ]


def test_a_start_waits_for_an_installer_whose_run_was_killed(
    checkout: Checkout, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    with checkout.started("list", HELD=str(held)) as first:
        held.read_text()
        first.kill()  # it alone: uv lives on, and holds the lock
        first.wait()
        with checkout.started("list") as second:
            assert second.stderr
            assert "waiting" in second.stderr.readline()
            calls = len(checkout.calls)
            held.write_text("go on\n")
            second.communicate()

    assert calls == 1
    assert second.returncode == 7


def test_of_two_starts_at_once_one_installs(checkout: Checkout, tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    with checkout.started("list", HELD=str(held)) as first:
        held.read_text()
        with checkout.started("list") as second:
            assert second.stderr
            assert "waiting" in second.stderr.readline()
            held.write_text("go on\n")
            told = second.communicate()[0]
        assert first.communicate()[0] == told

    assert (first.returncode, second.returncode) == (7, 7)
    assert len(checkout.calls) == 3


@pytest.mark.parametrize(
    ("arguments", "every", "called"),
    [
        (["test", "-k", "a or b"], "", [*PYTEST, "-k", "a or b"]),
        (["test", "--all", "-x"], "1", [*PYTEST, "-x"]),
        (
            ["bench", "small", "--json"],
            "",
            ["-m", "tests.benchmarks", "small", "--json"],
        ),
        (
            ["torture", "resume", "--rounds", "9"],
            "",
            ["-m", "tests.torture", "resume", "--rounds", "9"],
        ),
    ],
)
def test_the_projects_own_commands_run_at_its_root(
    arguments: list[str], every: str, called: list[str], checkout: Checkout
) -> None:
    code, told, _ = checkout.run(*arguments)

    first, *rest = told.splitlines()
    assert code == 7
    assert first == f"BGFETCH_TEST_ALL={every} in {checkout.path}"
    cache = str(checkout.path / ".venv" / "cache")
    assert rest == [f"[{argument.replace('CACHE', cache)}]" for argument in called]


def test_check_runs_every_check_and_fails_if_one_did(checkout: Checkout) -> None:
    code, told, _ = checkout.run("check")

    assert code == 1
    for name in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert f"== {name}\n" in told
    assert told.splitlines()[-1].startswith("failed: ruff check, ")


def test_without_a_command_the_usage_is_told_and_nothing_installed(
    checkout: Checkout,
) -> None:
    nothing = checkout.run()
    asked = checkout.run("--help")

    assert (nothing[0], asked[0]) == (2, 0)
    assert nothing[2] == asked[1]
    assert "usage: python3 run.py" in asked[1]
    assert not (checkout.path / ".venv").exists()


def test_a_directory_of_other_things_is_left_alone(
    checkout: Checkout, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters").touch()

    code, _, said = checkout.run("list", BGFETCH_VENV=str(home))

    assert code == 3
    assert "BGFETCH_VENV" in said
    assert os.listdir(home) == ["letters"]


def test_somebody_elses_environment_is_used_but_never_emptied(
    checkout: Checkout, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").touch()

    for name in ("one", "two"):
        (theirs / "mine").touch()
        (checkout.path / "requirements.lock").write_text(name)
        assert checkout.run("list", BGFETCH_VENV=str(theirs))[0] == 7

    assert (theirs / "mine").exists()


def test_a_place_that_cannot_be_written_is_named_with_the_way_out(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    code, told, said = checkout.run(
        "list", BGFETCH_VENV=str(tmp_path / "file" / "venv")
    )

    assert (code, told) == (3, "")
    assert said.startswith("run.py: cannot write")
    assert "BGFETCH_VENV" in said


def test_a_failed_installation_tells_which_step_and_leaves_no_stamp(
    checkout: Checkout,
) -> None:
    uv = Path(checkout.variables["PATH"].split(os.pathsep)[0]) / "uv"
    uv.write_text("#!/bin/sh\necho no network >&2\nexit 2\n")

    first, second = checkout.run("list"), checkout.run("list")

    for code, told, said in (first, second):
        assert (code, told) == (3, "")
        assert "no network" in said
        assert "uv venv" in said


def test_an_older_python_is_told_the_version_it_is(tmp_path: Path) -> None:
    script = tmp_path / "old.py"
    script.write_text(
        "import runpy, sys\n"
        "sys.version_info = (3, 9, 2, 'final', 0)\n"
        "sys.version = '3.9.2 (main)'\n"
        f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')\n"
    )

    told = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False
    )

    assert told.returncode == 3
    assert "3.11 or later" in told.stderr
    assert "3.9.2" in told.stderr


def test_a_missing_optional_program_skips_or_with_all_fails(
    tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BGFETCH_TEST_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"needs aria2c \(apt-get install"):
        tool("aria2c")

    monkeypatch.setenv("BGFETCH_TEST_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match=r"needs aria2c \(apt-get install"):
        tool("aria2c")
