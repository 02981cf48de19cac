"""The command line's small decisions: names of files, sizes, codes, redaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from broker.cli.exits import EPILOG, ExitCode, code_of, told
from broker.cli.files import Folder
from broker.cli.logs import redacted
from broker.cli.output import printable
from broker.cli.quantities import parse_duration, parse_moment
from broker.filenames import MAX_BYTES, safe_name
from broker.plain import iso
from broker.quantities import shown_duration, shown_size
from schemas.errors import BackgroundFetchError, StorageError
from schemas.sizes import parse_size


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://cdn.example/a/ep-5.mp3?token=x#y", "ep-5.mp3"),
        ("https://cdn.example/caf%C3%A9.txt", "café.txt"),
        ("https://cdn.example/", "cdn.example"),
        ("https://cdn.example/a/b/", "b"),
        ("https://cdn.example/..%2F..%2Fetc%2Fpasswd", "_.._etc_passwd"),
        ("https://cdn.example/%2e%2e", "cdn.example"),
        ("https://cdn.example/.bashrc", "bashrc"),
        ("https://cdn.example/-rf", "rf"),
        ("https://cdn.example/a%00b%0Ac.txt", "a_b_c.txt"),
        ("https://cdn.example/a%5Cb", "a_b"),
        ("https://cdn.example/gpj%E2%80%AEexe", "gpj_exe"),
        ("https://cdn.example/%FF%FE", "\ufffd\ufffd"),
        ("https://cdn.example/" + "x" * 300 + ".tar.gz", "x" * 117 + ".gz"),
        ("https://[2001:db8::1]/", "2001_db8__1"),
    ],
)
def test_a_file_name_comes_from_the_url_and_is_harmless(url: str, name: str) -> None:
    assert safe_name(url) == name


@given(st.text())
def test_no_url_gives_a_name_that_leaves_its_directory(path: str) -> None:
    name = safe_name("https://h/" + path.replace("?", "%3F").replace("#", "%23"))

    assert name == Path(name).name
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= MAX_BYTES
    assert not name.startswith((".", "-"))
    assert not set(name) & set("/\\\0\n")


def test_files_of_one_name_are_numbered_and_nothing_is_overwritten(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.mp3").write_text("mine")
    folder = Folder(tmp_path)

    names = [folder.reserve(name).name for name in ("a.mp3", "a.mp3", "b", "b")]

    assert names == ["a-2.mp3", "a-3.mp3", "b", "b-2"]
    assert (tmp_path / "a.mp3").read_text() == "mine"


def test_a_link_with_the_name_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").symlink_to(tmp_path / "elsewhere")

    assert Folder(tmp_path).reserve("a.mp3").name == "a-2.mp3"
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"file/below"):
        Folder(tmp_path / "file" / "below").make()
    with pytest.raises(StorageError, match=r"nowhere"):
        Folder(tmp_path / "nowhere").reserve("a")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("10MB", 10_000_000),
        ("10m", 10_000_000),
        ("60MiB", 62_914_560),
        ("60 mib", 62_914_560),
        ("1.5KiB", 1536),
        ("2GB", 2_000_000_000),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_a_size_is_read_as_it_is_written(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "ten", "10XB", "1,5MB", "٣", "1e3"])
def test_what_is_no_size_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match="60MiB") as refusal:
        parse_size(text)

    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5h", 5400),
        ("10m", 600),
        ("7d", 604800),
        ("5ms", 0.005),
    ],
)
def test_a_duration_is_read_as_it_is_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-1", "soon", "1w", "9" * 400])
def test_what_is_no_duration_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_a_moment_is_a_time_or_how_long_ago() -> None:
    told = parse_moment("2026-11-22T19:00Z")

    assert told == datetime(2026, 11, 22, 19, tzinfo=UTC)
    assert parse_moment("2h") == timedelta(hours=2)
    assert parse_moment("2026-11-22") == datetime(2026, 11, 22).astimezone()
    with pytest.raises(ValueError, match="'yesterday' is no time"):
        parse_moment("yesterday")


def test_people_read_sizes_durations_and_times() -> None:
    assert [shown_size(size) for size in (0, 1023, 1536, 60 * 2**20, 2**50)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "60.0 MiB",
        "1.0 PiB",
    ]
    assert [shown_duration(timedelta(seconds=it)) for it in (5, 65, 3700, 90_000)] == [
        "5 s",
        "1 min 5 s",
        "1 h 1 min",
        "1 d 1 h",
    ]
    assert iso(0) is None
    assert iso(1_795_367_239_087) == "2026-11-22T17:07:19.087Z"


def test_text_from_elsewhere_cannot_command_a_terminal() -> None:
    assert printable("\x1b]0;owned\x07title\u202e") == "?]0;owned?title?"
    assert printable("é 日本") == "é 日本"


def every_error() -> list[type[BackgroundFetchError]]:
    found = [getattr(schemas, name) for name in schemas.__all__]
    return [
        error
        for error in found
        if isinstance(error, type) and issubclass(error, BackgroundFetchError)
    ]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_code_and_is_one_line(
    kind: type[BackgroundFetchError],
) -> None:
    """Design §4: every class has its name in the specification."""
    error = kind("first\nsecond")

    assert code_of(error) is not ExitCode.OK
    assert told(error).count("\n") == 0
    if kind.spec_name == "TypeError":
        assert told(error).startswith("TypeError: first second")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("RejectedFetch", 2),
        ("InvalidURL", 2),
        ("ForbiddenAddress", 2),
        ("DuplicateFetch", 1),
        ("NoActiveWorker", 1),
        ("NotAllowed", 1),
        ("QuotaExceeded", 1),
        ("InvalidState", 1),
        ("StorageError", 1),
        ("ConfigError", 3),
        ("StartError", 4),
        ("Unreachable", 4),
        ("Aborted", 5),
    ],
)
def test_errors_end_a_command_with_the_code_of_their_kind(name: str, code: int) -> None:
    assert code_of(getattr(schemas, name)("x")) == code


def test_the_help_lists_every_exit_code() -> None:
    told_there = [word.strip(":,()") for word in EPILOG.split()]

    for code in ExitCode:
        assert str(int(code)) in told_there


@pytest.mark.parametrize(
    ("logged", "shown"),
    [
        ("GET https://h/a?X-Amz-Signature=s3cr3t failed", "GET https://h/a?… failed"),
        ("https://user:s3cr3t@h/a", "https://h/a"),
        ("redis://:s3cr3t@h:6379/0", "redis://h:6379/0"),
        ("'http://h/?sig=s3cr3t'", "'http://h/?…'"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_a_url_grants_is_not_logged(logged: str, shown: str) -> None:
    assert redacted(logged) == shown
