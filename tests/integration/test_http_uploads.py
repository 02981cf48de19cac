"""Fetches registered with files: forms whose parts are bodies of requests."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.test_http_once import part

URL = "https://cdn.example/upload"
FETCHES = f"/api/v1/scopes/{SCOPE}/fetches"
HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}
LARGE = random.Random(3).randbytes(8 * 1024**2)
END = b"--b--\r\n"


def put(name: str) -> dict[str, Any]:
    """A request whose body is a part."""
    return {"url": URL, "method": "PUT", "body": {"part": name}}


def order(*requests: object) -> bytes:
    """The part with the JSON."""
    return part("fetch", json.dumps({"id": "x", "requests": requests}).encode())


async def register(gateway: AsyncClient, *content: bytes) -> Response:
    """Send a form."""

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in content:
            yield chunk

    return await gateway.post(FETCHES, content=chunks(), headers=HEADERS, timeout=60)


async def test_parts_become_the_bodies_of_the_requests_that_name_them(
    gateway: AsyncClient, manager: BackgroundFetchManager
) -> None:
    """BF-FETCH-14, BF-FETCH-18: large and small ones, and those that have none."""
    answer = await register(
        gateway,
        order(put("large"), "/plain", put("small")),
        part("large", LARGE),
        part("small", b"text\r\n--a"),
        END,
    )

    assert answer.status_code == 201
    assert answer.json()["uploadTotal"] == len(LARGE) + 9
    records = f"{answer.headers['location']}/records"
    large = await gateway.get(f"{records}/0/request/body")
    small = await gateway.get(f"{records}/2/request/body")
    assert (large.content, small.content) == (LARGE, b"text\r\n--a")


async def test_a_part_is_stored_while_it_arrives(
    gateway: AsyncClient, settings: Settings
) -> None:
    """Its first half is in the store before the second half is sent."""

    def stored() -> int:
        total = 0
        for path in Path(settings.store or "").rglob("*"):
            with suppress(FileNotFoundError):  # a draft that has just been renamed
                total += path.stat().st_size
        return total

    async def chunks() -> AsyncIterator[bytes]:
        whole = order(put("f")) + part("f", LARGE) + END
        yield whole[: len(whole) // 2]
        async with asyncio.timeout(60):
            while stored() < len(LARGE) // 4:  # noqa: ASYNC110 - of a thread
                await asyncio.sleep(0.01)
        yield whole[len(whole) // 2 :]

    answer = await gateway.post(FETCHES, content=chunks(), headers=HEADERS, timeout=120)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([order(put("a"), put("b")), part("b", b"1"), part("a", b"2"), END], "'b' is"),
        ([order(put("a")), END], "there is none"),
        ([part("a", b"1"), order(put("a")), END], "it is 'a'"),
        ([END], "there is none"),
        ([b"--c\r\n"], "multipart"),
        ([order(put("a")), part("a", LARGE)[: 2**20]], "middle of a part"),
        ([order({"url": URL, "body": {"part": "a"}}), part("a", b""), END], "GET"),
    ],
    ids=["order", "missing", "first", "empty", "noise", "cut", "get"],
)
async def test_a_form_that_cannot_be_used_registers_nothing(
    gateway: AsyncClient,
    manager: BackgroundFetchManager,
    content: list[bytes],
    told: str,
) -> None:
    """BF-FETCH-15: the id stays free."""
    answer = await register(gateway, *content)

    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert await manager.get_ids() == []


async def test_curl_uploads_a_file_and_waits_for_a_hundred(
    gateway: AsyncClient, tmp_path: Path
) -> None:
    """RFC 9110 § 10.1.1, as in the documentation."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl here")
    (tmp_path / "large").write_bytes(LARGE)
    process = await asyncio.create_subprocess_exec(
        curl,
        *("-sS", "--expect100-timeout", "60", "-H", "Expect: 100-continue"),
        *("-F", f"fetch={json.dumps({'id': 'x', 'requests': [put('file')]})}"),
        *("-F", f"file=@{tmp_path / 'large'}"),
        f"{gateway.base_url}{FETCHES}",
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, _ = await process.communicate()

    assert json.loads(out)["uploadTotal"] == len(LARGE)
