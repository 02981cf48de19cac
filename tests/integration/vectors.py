"""The table of addresses and spellings with which policies are passed, as data."""

from __future__ import annotations

from pathlib import Path

_TABLE = Path(__file__).parents[1] / "data" / "ssrf_vectors.tsv"


def vectors(*verdicts: str) -> list[str]:
    """The addresses with one of these verdicts, and ``host:`` with spellings."""
    rows = [line.split("\t") for line in _TABLE.read_text("utf-8").splitlines()[1:]]
    return [address for address, verdict, _ in rows if verdict in verdicts]


def hosts(*verdicts: str) -> list[str]:
    """The same as they stand in a URL."""
    return [_host(each) for each in vectors(*verdicts)]


def _host(value: str) -> str:
    spelling = value.removeprefix("host:")
    if spelling != value:
        return spelling
    return f"[{value}]" if ":" in value else value
