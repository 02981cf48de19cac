"""Names that lie, loop, lead astray or are never answered: what becomes of records.

Everything happens in a network namespace in which every address is this machine's, so
that whatever is dialled, public or not, reaches a listener.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.embedded import EmbeddedServer
from tests.conftest import NEEDS, find_tool
from tests.integration.elsewhere import NAMES, PUBLIC, REBINDING, Told
from tests.integration.vectors import vectors

ROOT = Path(__file__).parents[2]
PREPARE = """
set -e
mount --bind "$1" /etc/resolv.conf
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
shift
exec "$@"
"""
RESOLVER = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
# What a name can lead to: a scope id is no part of an AAAA record.
DENIED = [each for each in vectors("deny") if not each.startswith("host:")]
FORBIDDEN = {
    f"denied-{n}.test": each for n, each in enumerate(DENIED) if "%" not in each
}
ALLOWED = {f"allowed-{n}.test": each for n, each in enumerate(vectors("allow"))}


@pytest.fixture(scope="module")
def told(
    redis_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Told]]:
    """What became of each name, in a network of its own."""
    if sys.platform != "linux":
        pytest.skip("namespaces are Linux's")
    unshare, _ = find_tool("unshare"), find_tool("ip")
    here = tmp_path_factory.mktemp("names")
    (here / "resolv.conf").write_text(RESOLVER)
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    enter = [unshare, *root, "--net", "--mount", "sh", "-c", PREPARE, "sh"]
    enter.append(str(here / "resolv.conf"))
    if subprocess.run([*enter, "true"], capture_output=True, timeout=60).returncode:
        pytest.skip(f"{NEEDS}network and mount namespaces (root, or user namespaces)")
    program = [sys.executable, "-m", "tests.integration.elsewhere"]
    done = subprocess.run(
        [*enter, *program, redis_server.url, str(here / "store")],
        input=json.dumps({**FORBIDDEN, **ALLOWED}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {name: [Told(**each) for each in told] for name, told in found.items()}


def refused(told: Told) -> bool:
    """FE, and no address was dialled for it."""
    return (
        told.result == "fetch-error"
        and told.detail.startswith("forbidden: the address may not be reached: ")
        and told.dialled == []
    )


@pytest.mark.parametrize("name", FORBIDDEN, ids=FORBIDDEN.values())
def test_a_name_that_leads_to_a_forbidden_address_fails_its_record(
    told: dict[str, list[Told]], name: str
) -> None:
    """Faults row 20: though a listener would have answered there."""
    assert refused(told[name][0])


@pytest.mark.parametrize("name", ALLOWED, ids=ALLOWED.values())
def test_a_name_that_leads_to_a_public_address_is_dialled(
    told: dict[str, list[Told]], name: str
) -> None:
    """Faults row 20: what lies just outside of a forbidden range."""
    assert told[name][0].result == "success"
    assert told[name][0].dialled == [ALLOWED[name]]


def test_a_name_that_is_public_first_and_private_then_never_leads_there(
    told: dict[str, list[Told]],
) -> None:
    """Faults row 22: one worker uses its first answer, and another refuses the second.

    The answer may be kept for no second; what is dialled was judged, and not looked up
    between.
    """
    first, again, elsewhere = told[REBINDING]

    assert (first.result, first.dialled) == ("success", [PUBLIC])
    assert (again.result, again.dialled) == ("success", [PUBLIC])
    assert again.asked == first.asked < elsewhere.asked
    assert refused(elsewhere)


def test_a_name_with_public_and_private_addresses_never_leads_to_the_private(
    told: dict[str, list[Told]],
) -> None:
    """Faults row 23: refused, unless the public address was met before the private."""
    [mixed], [both] = told["mixed.test"], told["both.test"]

    for each in (mixed, both):
        assert refused(each) or (each.result, each.dialled) == ("success", [PUBLIC])


def test_an_alias_is_judged_by_where_it_leads(told: dict[str, list[Told]]) -> None:
    """Faults rows 20 and 24: and so are five hundred addresses."""
    assert refused(told["alias.test"][0])
    assert refused(told["many.test"][0])


@pytest.mark.parametrize(
    "name",
    [
        "loop.test",
        "text.test",
        "servfail.test",
        "missing.test",
        "silent.test",
        "garbage.test",
    ],
)
def test_a_name_without_an_address_fails_its_record_in_the_end(
    told: dict[str, list[Told]], name: str
) -> None:
    """Faults row 24: a loop, 60 kB of text, SERVFAIL, no answer; tried until then."""
    [outcome] = told[name]

    assert (outcome.result, outcome.dialled) == ("fetch-error", [])
    assert outcome.detail.startswith("offline: ")
    assert outcome.asked >= 1


def test_every_name_was_asked_for(told: dict[str, list[Told]]) -> None:
    assert set(told) == {*NAMES, *FORBIDDEN, *ALLOWED}
