#!/usr/bin/env python3
"""Run the project from a checkout; needs nothing but Python 3.11 or later.

The first start makes a virtual environment beside this file and installs what
requirements.lock names, every file checked against its hash. Later starts compare a
stamp and then become the command, so that exit codes and signals are its own.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this line is what tells the newcomer
    sys.stderr.write(
        f"run.py: Python 3.11 or later is needed; {sys.executable} is "
        f"{sys.version.split()[0]}. Try another one, for example: python3.12 run.py\n"
    )
    sys.exit(3)

import hashlib
import os
import shutil
import subprocess
import time
from typing import IO, NoReturn

try:
    import fcntl
except ImportError:
    sys.exit("run.py: this project runs on Linux and macOS (on Windows: inside WSL)")

USAGE = """\
usage: python3 run.py COMMAND [ARGUMENT...]

  demo                  the whole service on this machine, with downloads to watch
  test [--all] [ARG..]  the tests; --all: a missing optional program is an error
  check                 formatting, lint, types, direction of imports
  bench NAME [ARG..]    a benchmark
  torture NAME [ARG..]  faults at random moments, for thousands of rounds
  conformance [--json]  the specification row by row, with the tests that hold it
  screenshots           the dashboard's pages as pictures, into docs/screenshots
  oracle record         what Chromium's own Background Fetch does, for the tests
  ...                   every other command is bgfetch's own; 'help' lists them

The virtual environment is .venv beside this file, or where BGFETCH_VENV says.
"""
ROOT = os.path.dirname(os.path.realpath(__file__))
LOCK = os.path.join(ROOT, "requirements.lock")
# The interpreter outside, also when run.py itself is run by one inside.
BASE = getattr(sys, "_base_executable", sys.executable)
# Variables that would make an installer look at, or write to, another place.
DIVERTING = {"PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"}


class Stop(Exception):
    """Nothing can be run; the message has the fix."""


def main(arguments: list[str]) -> int:
    """Install what is missing, then become the command."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        (sys.stdout if arguments else sys.stderr).write(USAGE)
        return 0 if arguments else 2
    try:
        return carry_out(Environment(), *arguments)
    except Stop as reason:
        say(str(reason))
        return 3
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def carry_out(environment: "Environment", command: str, *rest: str) -> int:
    """Run ``check`` here; become anything else."""
    environment.make()
    if command == "check":
        return check(environment)
    python = environment.python
    if command == "test":
        if "--all" in rest:
            os.environ["BGFETCH_TEST_ALL"] = "1"
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = environment.cache("hypothesis")
        options = ["-o", f"cache_dir={environment.cache('pytest')}"]
        options += ["-n", "auto", "--maxprocesses", "8"]
        chosen = [argument for argument in rest if argument != "--all"]
        become([python, "-m", "pytest", *options, *chosen], ROOT)
    elif command == "bench":
        become([python, "-m", "tests.benchmarks", *rest], ROOT)
    elif command == "torture":
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = environment.cache("hypothesis")
        become([python, "-m", "tests.torture", *rest], ROOT)
    elif command == "screenshots":
        become([python, "-m", "tests.screenshots", *rest], ROOT)
    elif command == "oracle":
        become([python, "-m", "tests.oracle", *rest], ROOT)
    elif command == "conformance":
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = environment.cache("hypothesis")
        become([python, "-m", "tests.conformance", *rest], ROOT)
    own = "--help" if command == "help" else command
    return become([python, environment.script("bgfetch"), own, *rest], os.curdir)


def check(environment: "Environment") -> int:
    """Run every check, tell each one's name, and fail if any did."""
    python = [environment.python, "-m"]
    lint_imports = [environment.python, environment.script("lint-imports"), "--no-logo"]
    checks = {
        "ruff check": [*python, "ruff", "check"],
        "ruff format --check": [*python, "ruff", "format", "--check"],
        "mypy": [*python, "mypy"],
        "lint-imports": lint_imports,
    }
    failed = []
    for name, command in checks.items():
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        command += ["--cache-dir", environment.cache(name.split()[0])]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "all passed\n")
    return 1 if failed else 0


def become(command: list[str], directory: str) -> NoReturn:
    """Turn this process into ``command``."""
    os.chdir(directory)
    os.execv(command[0], command)


def say(line: str) -> None:
    """Tell of progress and trouble on stderr; stdout is the command's."""
    sys.stderr.write(f"run.py: {line}\n")
    sys.stderr.flush()


class Environment:
    """The virtual environment and its stamp.

    The stamp has three lines: who made the environment (``run.py``, which may empty it
    again, or ``someone``), for which place and Python, and from which files. Only the
    first stands while an installation runs. The stamp is the lock too (flock), which
    installers inherit: one that outlives a killed run.py keeps the others waiting.
    """

    def __init__(self) -> None:
        named = os.environ.get("BGFETCH_VENV") or os.path.join(ROOT, ".venv")
        self.path = os.path.abspath(named)
        self.python = self.script("python")
        self.stamp = os.path.join(self.path, ".run.py-stamp")

    def script(self, name: str) -> str:
        """Tell where the environment has its program ``name``."""
        return os.path.join(self.path, "bin", name)

    def cache(self, name: str) -> str:
        """Tell where a tool may keep its cache: the checkout may be read-only."""
        return os.path.join(self.path, "cache", name)

    def make(self) -> None:
        """Install unless the stamp and the Python are those that are wanted."""
        wanted = self.wanted()
        try:
            with open(self.stamp) as stamp:
                told = stamp.read().split("\n")
        except OSError:
            told = []
        if told[1:] == wanted and os.path.exists(self.python):
            return
        try:
            os.makedirs(self.path, exist_ok=True)
            stamp = open(self.stamp, "a+")  # noqa: SIM115 - only this may fail so
        except OSError as error:
            raise Stop(
                f"cannot write {error.filename} ({error.strerror}); "
                "name a directory for the virtual environment in BGFETCH_VENV"
            ) from error
        with stamp:
            self.install(stamp, wanted)

    def wanted(self) -> list[str]:
        """Return what the last two lines of the stamp should be."""
        version = ".".join(map(str, sys.version_info[:2]))
        place = "\0".join([version, sys.base_prefix, ROOT, self.path])
        content = b""
        for name in (LOCK, os.path.join(ROOT, "pyproject.toml")):
            with open(name, "rb") as file:
                content += file.read()
        return [hashlib.sha256(it).hexdigest() for it in (os.fsencode(place), content)]

    def install(self, stamp: IO[str], wanted: list[str]) -> None:
        """Bring the environment to what is wanted, unless another start just did."""
        try:
            fcntl.flock(stamp, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another start that is installing")
            fcntl.flock(stamp, fcntl.LOCK_EX)
        stamp.seek(0)
        maker, *told = stamp.read().split("\n")
        usable = os.path.exists(self.python)
        if usable and told == wanted:
            return
        maker = maker or self.first_maker()
        if maker == "run.py" and not (usable and told[:1] == wanted[:1]):
            self.empty()
        began = time.monotonic()
        write(stamp, [maker])
        self.fill(stamp)
        write(stamp, [maker, *wanted])
        say(f"ready after {time.monotonic() - began:.1f} s")

    def first_maker(self) -> str:
        """Tell whose the directory is that has no stamp yet."""
        if os.path.exists(os.path.join(self.path, "pyvenv.cfg")):
            return "someone"
        if os.listdir(self.path) != [os.path.basename(self.stamp)]:
            os.unlink(self.stamp)
            raise Stop(f"{self.path} is no virtual environment; change BGFETCH_VENV")
        return "run.py"

    def empty(self) -> None:
        """Remove all but the stamp, whose lock others may be waiting for."""
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry)
            elif entry.path != self.stamp:
                os.unlink(entry)

    def fill(self, stamp: IO[str]) -> None:
        """Install the lock, then the project; neither looks for anything more."""
        uv = shutil.which("uv")
        say(f"installing into {self.path} (half a minute; later starts skip this)")
        pip = self.uv_pip(stamp, uv) if uv else self.pip(stamp)
        self.run(stamp, [*pip, "--require-hashes", "-r", LOCK])
        project = ["--no-deps", "--no-build-isolation", "-e", ROOT]
        self.run(stamp, [*pip, *project])

    def uv_pip(self, stamp: IO[str], uv: str) -> list[str]:
        """Return uv's command that installs into the environment, made if need be."""
        if not os.path.exists(self.python):
            venv = ["venv", "--quiet", "--allow-existing", "--python", BASE]
            self.run(stamp, [uv, *venv, self.path])
        return [uv, "pip", "install", "--quiet", "--python", self.python]

    def pip(self, stamp: IO[str]) -> list[str]:
        """Return pip's command that installs into the environment, made if need be."""
        venv = [BASE, "-E", "-m", "venv"]
        pip = [self.python, "-E", "-m", "pip"]
        if not self.works(stamp, pip):
            self.returncode(stamp, [*venv, self.path], subprocess.DEVNULL)
        if not self.works(stamp, pip):
            # Debian without python3-venv: perhaps there is a pip outside.
            venv.append("--without-pip")
            self.returncode(stamp, [*venv, self.path], subprocess.DEVNULL)
            pip = [BASE, "-E", "-m", "pip", "--python", self.python]
            if not self.works(stamp, pip):
                raise Stop("no pip here: sudo apt-get install -y python3-venv")
        errors_only = ["--quiet", "--quiet", "--disable-pip-version-check"]
        return [*pip, "install", *errors_only, "--no-input"]

    def works(self, stamp: IO[str], pip: list[str]) -> bool:
        """Tell whether this pip runs and knows the options it has."""
        if not os.path.exists(pip[0]):
            return False
        return self.returncode(stamp, [*pip, "--version"], subprocess.DEVNULL) == 0

    def run(self, stamp: IO[str], command: list[str]) -> None:
        """Run one step of the installation."""
        code = self.returncode(stamp, command, sys.stderr)
        if code:
            raise Stop(f"{' '.join(command)} failed with {code}; see above")

    def returncode(
        self, stamp: IO[str], command: list[str], output: int | IO[str]
    ) -> int:
        """Run a command that shares the lock; stdout stays clean."""
        variables = {k: v for k, v in os.environ.items() if k not in DIVERTING}
        return subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[stamp.fileno()],
            check=False,
        ).returncode


def write(stamp: IO[str], lines: list[str]) -> None:
    """Replace the stamp in place."""
    stamp.seek(0)
    stamp.truncate()
    stamp.write("\n".join(lines))
    stamp.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
