"""``MODULE:ATTRIBUTE``: what is found, and what is told where it is not."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from workers.cli.target import load_target

SOURCE = """
import json
from workers import ServiceWorker

sw = ServiceWorker("podcasts")
title = "Podcasts"


class app:
    inner = ServiceWorker("music")


def make():
    return sw


def nothing():
    return None


def broken():
    raise RuntimeError("no database")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return a function that writes a module of a new name and tells that name."""
    before, modules = list(sys.path), set(sys.modules)
    names = iter("abcdef")

    def write(source: str) -> str:
        name = f"{next(names)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    yield write
    sys.path[:] = before
    for added in set(sys.modules) - modules:
        del sys.modules[added]


@pytest.mark.parametrize(
    ("attribute", "scope"),
    [("sw", "podcasts"), ("app.inner", "music"), ("make", "podcasts")],
)
def test_an_attribute_a_path_and_a_factory_are_found(
    attribute: str, scope: str, project: Callable[[str], str], tmp_path: Path
) -> None:
    assert load_target(f"{project(SOURCE)}:{attribute}", tmp_path).scope == scope


@pytest.mark.parametrize(
    ("attribute", "told"),
    [
        (
            "worker",
            r"has no attribute 'worker' \(has: sw, app, broken, make, nothing, title",
        ),
        ("sw.nothing", r"object '.*:sw' has no attribute 'nothing'"),
        ("title", r":title is a str, not a ServiceWorker \(has: sw\)"),
        ("nothing", r":nothing\(\) gave None, not a ServiceWorker"),
        ("broken", r":broken\(\) raised RuntimeError: no database at .*\.py:\d+"),
        ("ServiceWorker", r"raised TypeError: .*'scope'"),
    ],
)
def test_what_is_no_service_worker_is_told_with_what_was_found(
    attribute: str, told: str, project: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        load_target(f"{project(SOURCE)}:{attribute}", tmp_path)


def test_a_module_that_is_not_there_is_told_with_those_that_are(
    project: Callable[[str], str], tmp_path: Path
) -> None:
    name = project(SOURCE)

    with pytest.raises(ConfigError, match=rf"no module 'podcast' in .*\(has: {name}\)"):
        load_target("podcast:sw", tmp_path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import not_there_at_all", "needs 'not_there_at_all', which is not installed"),
        ("1 / 0", r"raised ZeroDivisionError: division by zero at .*\.py:1"),
        ("import sys; sys.exit(0)", "raised SystemExit: 0"),
        ("def broken(:", "raised SyntaxError"),
        (
            "from workers import ServiceWorker\nsw = ServiceWorker('no scope')",
            "'no scope' is no scope name",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    source: str, told: str, project: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        load_target(f"{project(source)}:sw", tmp_path)


@pytest.mark.parametrize("target", ["podcasts", "podcasts:", ":sw", ""])
def test_a_target_without_both_halves_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write MODULE:ATTRIBUTE"):
        load_target(target, tmp_path)


def test_a_module_with_the_name_of_our_package_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text("sw = 1")

    with pytest.raises(ConfigError, match="background-fetch's own package"):
        load_target("workers:sw", tmp_path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no directory '.*nowhere'"):
        load_target("podcasts:sw", tmp_path / "nowhere")
