"""What a server says of its bytes is kept as it was said, and believed by nobody."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from broker.cli.files import Folder
from broker.cli.records import records_of
from broker.cli.saving import save
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from schemas.errors import StorageError
from tests.integration.trial import Trials
from workers.demo.origin import Origin

DISPOSITIONS = {
    "parent": 'attachment; filename="../../etc/passwd"',
    "absolute": "attachment; filename=/etc/passwd",
    "drive": r"attachment; filename=C:\x",
    "share": r'attachment; filename="\\unc\x"',
    "device": "attachment; filename=CON",
    "4 kB": "attachment; filename=" + "x" * 4096,
    "right to left": 'attachment; filename="gpj\u202eexe"',
    "uneven quotes": 'attachment; filename="a; name="b',
    "bad charset": "attachment; filename*=utf-99''%2e%2e%2fx",
    "encoded": "attachment; filename*=UTF-8''..%2f..%2fetc%2fpasswd",
    "hidden": "attachment; filename=.bashrc",
}
PATHS = [
    "/..%2f..%2fetc%2fpasswd",
    "/%2e%2e%5c%2e%2e%5cx",
    "/C:%5Cx",
    "/a%00b",
    "/gpj%E2%80%AEexe",
    "/%FF%FE",
    "/" + "x" * 4096,
    "/~root/.bashrc",
]


def files_below(directory: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(place, name), directory)
        for place, _, names in os.walk(directory)
        for name in names
    }


async def test_no_server_chooses_the_name_of_a_file(
    manager: BackgroundFetchManager,
    trial: Trials,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """Faults row 64: Content-Disposition is shown, and names nothing.

    A NUL in it breaks the head (row 40).
    """
    async with Origin() as origin, trial() as worker:
        for number, said in enumerate(DISPOSITIONS.values()):
            sent = said.encode().decode("latin-1")
            headers = {"Content-Disposition": sent}
            origin.add(f"/{number}", b"ok", headers=headers)
        urls = [origin.url(f"/{number}") for number in range(len(DISPOSITIONS))]
        registration = await worker.fetch(*urls, manager=manager)
    before = files_below(tmp_path)
    records = await records_of(manager, registration)
    said_in = [
        (await each.record.response_ready).headers["Content-Disposition"]
        for each in records
    ]
    folder = Folder(tmp_path / "out")
    folder.make()

    await save(registration, records, folder, raw=False)

    added = files_below(tmp_path) - before
    assert added == {f"out/{number}" for number in range(len(DISPOSITIONS))}
    assert [each.encode("latin-1").decode() for each in said_in] == [
        *DISPOSITIONS.values()
    ]
    blobs = os.listdir(settings.store_directory / "blobs")
    assert all(re.fullmatch(r"[0-9a-f.]+", name) for name in blobs)


async def test_no_url_chooses_a_place_outside_of_the_directory(
    manager: BackgroundFetchManager,
    trial: Trials,
    tmp_path: Path,
) -> None:
    """Faults row 64: names are the last segments of URLs, made harmless."""
    async with Origin() as origin, trial() as worker:
        for path in PATHS:
            origin.add(path, path.encode())
        urls = [origin.url(path) for path in PATHS]
        registration = await worker.fetch(*urls, manager=manager)
    before = files_below(tmp_path)
    folder = Folder(tmp_path / "out")
    folder.make()

    saved = await save(
        registration, await records_of(manager, registration), folder, raw=False
    )

    names = [path.name for path in saved if path is not None]
    assert files_below(tmp_path) - before == {f"out/{name}" for name in names}
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == [
        path.encode() for path in PATHS
    ]
    assert names[0] == "_.._etc_passwd"
    assert not any(name.startswith(".") or "\u202e" in name for name in names)


async def test_a_directory_is_no_name_to_save_under(
    manager: BackgroundFetchManager, trial: Trials, tmp_path: Path
) -> None:
    """Faults row 64: ``Response.save`` is told the name, and guesses none."""
    evil = {"Content-Disposition": 'attachment; filename="../evil"'}
    async with Origin() as origin, trial() as worker:
        origin.add("/name", b"ok", headers=evil)
        registration = await worker.fetch(origin.url("/name"), manager=manager)
    [record] = await registration.match_all()
    directory = tmp_path / "out"
    directory.mkdir()

    with pytest.raises(StorageError):
        await (await record.response_ready).save(directory)

    assert list(directory.iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ("image/png", b"<script>alert(1)</script>"),
        ("text/html; charset=utf-7", b"+ADw-script+AD4-"),
        ("text/plain; charset=utf-99", b"\xff\xfe"),
        ("a/b/c;;; =", b"%PDF-1.7"),
    ],
)
async def test_what_a_server_says_of_its_type_is_kept_as_it_is(
    manager: BackgroundFetchManager, trial: Trials, said: str, body: bytes
) -> None:
    """Faults row 65: nothing is sniffed, and no charset but UTF-8 is believed."""
    headers = {"Content-Type": said, "X-Content-Type-Options": "nosniff"}
    async with Origin() as origin, trial() as worker:
        origin.add("/", body, headers=headers)
        registration = await worker.fetch(origin.url("/"), manager=manager)
    [record] = await registration.match_all()
    response = await record.response_ready

    assert response.headers["Content-Type"] == said
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert await response.read() == body
    assert await response.text() == body.decode("utf-8", "replace")
