"""The README is true: what can be checked, is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.settings import Settings, settings_table
from schemas.errors import ConfigError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]


def test_the_readme_repeats_the_table_of_settings() -> None:
    """Design §4: one table of defaults, in the code."""
    assert settings_table() in README


def test_the_python_in_the_documentation_compiles() -> None:
    found = [re.findall(r"```python\n(.*?)```", page, re.DOTALL) for page in PAGES]
    blocks = [block for page in found for block in page]

    assert len(blocks) >= 4
    for block in blocks:
        compile(block, "README.md", "exec", flags=0x2000)  # top-level await


def test_every_page_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)

    assert "docs/events.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BGFETCH_LEASE", "soon"),
        ("BGFETCH_TRANSFERS", "0"),
        ("BGFETCH_ALLOW_NETWORKS", "300.0.0.0/8"),
        ("BGFETCH_DURABILITY", "maybe"),
        ("BGFETCH_MAX_RATE", "fast"),
        ("BGFETCH_MAX_TRANSFER_RATE", "1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=f"{name}.*'{value}'"):
        Settings.load()


def test_rates_are_written_as_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGFETCH_MAX_RATE", "20M")
    monkeypatch.setenv("BGFETCH_MAX_TRANSFER_RATE", "512KiB")

    settings = Settings.load()

    assert settings.max_rate == 20_000_000
    assert settings.max_transfer_rate == 524_288


def test_durations_are_seconds_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BGFETCH_LEASE", "2.5")

    assert Settings.load().lease.total_seconds() == 2.5
