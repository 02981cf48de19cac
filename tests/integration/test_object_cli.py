"""The command line where the store is a bucket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.cli.app import command_line, run
from broker.objects import ObjectStore

ROOT = Path(__file__).parents[2]
Bgfetch = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bgfetch(
    redis_url: str,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bgfetch:
    """Return a function that runs one command in this process."""
    monkeypatch.setenv("BGFETCH_REDIS_URL", redis_url)
    monkeypatch.setenv("BGFETCH_STORE", s3_url)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(command_line(), ["never", "started"], arguments)
        return (code, *capsys.readouterr())

    return call


def store_check(out: str) -> dict[str, str]:
    checks: list[dict[str, str]] = json.loads(out)["checks"]
    [found] = [check for check in checks if check["name"] == "store"]
    assert "disk" not in {check["name"] for check in checks}
    return found


def test_doctor_looks_into_the_bucket(bgfetch: Bgfetch, s3_url: str) -> None:
    _, out, _ = bgfetch("doctor", "--json")

    place = s3_url.partition("?")[0]
    identity = ObjectStore.open(s3_url).id
    assert store_check(out) == {
        "name": "store",
        "verdict": "ok",
        "finding": f"{place} is writable, id {identity}",
    }


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("http://bucket/x", "use a directory, or s3://BUCKET/PREFIX"),
        ("s3://no-such-bucket-here/x?{options}", "NoSuchBucket"),
    ],
)
def test_doctor_says_what_is_wrong_with_a_store(
    bgfetch: Bgfetch, s3_url: str, store: str, told: str
) -> None:
    url = store.format(options=s3_url.partition("?")[2])

    code, out, line = bgfetch("doctor", "--json", "--store", url)

    assert code == 1
    assert store_check(out)["verdict"] == "fail"
    assert told in store_check(out)["finding"]
    assert line == ""


def test_a_bucket_is_swept_by_hand(bgfetch: Bgfetch) -> None:
    code, _, told = bgfetch("sweep", "--dry-run")

    assert code == 1
    assert "no worker of this Redis has used the store s3://" in told


def test_without_the_extra_its_name_is_told(redis_url: str) -> None:
    program = (
        "import sys; sys.modules['obstore'] = None; "
        "from workers.cli.main import main; sys.argv = ['bgfetch', 'sweep', "
        f"'--store', 's3://bucket/x', '--redis-url', {redis_url!r}]; sys.exit(main())"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60
    )

    assert ended.returncode == 3
    assert b"pip install 'background-fetch[object-store]'" in ended.stderr
