"""Where no record leads: forbidden addresses, and redirects against the rules.

Listeners count: a refused address must not have seen even a connection.
"""

from __future__ import annotations

import asyncio
import socket
import zlib

import pytest

from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from schemas.errors import ForbiddenAddress, InvalidURL, RejectedFetch
from schemas.requests import Request
from tests.integration.clock import SCOPE
from tests.integration.trial import Trials
from tests.integration.vectors import hosts
from tests.integration.wire import Play, Scripted, resident_bytes
from workers.demo.origin import Origin

APART = AddressPolicy.parse("127.77.0.1/32")
MiB = 1024 * 1024
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_the_table_of_addresses_is_whole() -> None:
    assert (len(hosts("deny")), len(hosts("allow", "allow-as-v4"))) == (42, 7)


async def test_every_forbidden_literal_is_rejected_by_fetch(
    settings: Settings,
) -> None:
    """Faults rows 20 and 21: in whatever spelling, and nothing is stored."""
    strict = settings.model_copy(update={"allow_networks": AddressPolicy()})
    async with connect(scope=SCOPE, settings=strict) as manager:
        before = await manager.connection.ask("DBSIZE")
        for host in hosts("deny"):
            with pytest.raises(RejectedFetch) as refused:
                await manager.fetch("x", f"http://{host}:8080/")
            # A scope id (fe80::1%eth0) is no part of a URL.
            expected = InvalidURL if "%" in host else ForbiddenAddress
            assert isinstance(refused.value, expected), host
            assert refused.value.spec_name == "TypeError"
        assert await manager.connection.ask("DBSIZE") == before


async def test_every_public_literal_may_be_registered(
    manager: BackgroundFetchManager,
) -> None:
    """Faults row 20: what is just outside of a forbidden range, and mapped addresses.

    Nobody works here, so that nothing is dialled.
    """
    for host in hosts("allow", "allow-as-v4"):
        await manager.fetch(host, f"http://{host}/")


async def test_no_redirect_leads_to_a_forbidden_literal(trial: Trials) -> None:
    """Faults rows 20 and 21: each fails its record, and no listener hears of it.

    They listen at every address of this machine, where the loopback rows lead. The
    origin alone is excepted, at an address that no row has.
    """
    denied = hosts("deny")

    async def redirect(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        host, port = request.split(b" ")[1].decode()[1:].split("/")
        location = f"http://{denied[int(host)]}:{port}/"
        # As on the wire: a header is bytes, and browsers read UTF-8.
        writer.write(b"HTTP/1.1 302 Go\r\nContent-Length: 0\r\n")
        writer.write(f"Location: {location}\r\n\r\n".encode())

    with _listening(socket.AF_INET) as first, _listening(socket.AF_INET6) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
        pairs = [f"{number}/{port}" for number in range(len(denied)) for port in ports]
        async with (
            _elsewhere(redirect) as origin,
            trial(allow_networks=APART) as worker,
        ):
            registration = await worker.fetch(*(origin.url + pair for pair in pairs))
            records = [await each.refresh() for each in await registration.match_all()]
            assert origin.connections == len(records) == len(pairs)

        for record in records:
            assert (record.result, record.attempts) == ("fetch-error", 1)
            assert record.failure_reason.startswith("forbidden: redirect refused: ")
        for listener in (first, second):
            with pytest.raises(BlockingIOError):
                listener.accept()


def _elsewhere(script: Play) -> Scripted:
    host = str(APART.allow[0].network_address)
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has one loopback address, and not {host}")
    return Scripted(script, host=host)


def _listening(family: socket.AddressFamily) -> socket.socket:
    everywhere = "::" if family is socket.AF_INET6 else "0.0.0.0"
    listener = socket.create_server((everywhere, 0), family=family)
    listener.setblocking(False)
    return listener


@pytest.mark.parametrize("spelling", ["localhost", "LOCALHOST.", "some.localhost"])
async def test_a_name_that_leads_to_a_forbidden_address_fails_its_record(
    manager: BackgroundFetchManager, trial: Trials, spelling: str
) -> None:
    """Faults row 21: registered where it was allowed, refused where it is dialled."""
    async with Scripted(REPLY) as listener:
        url = f"http://{spelling}:{listener.port}/"
        async with trial(allow_networks=AddressPolicy.parse("10.0.0.0/8")) as worker:
            outcome = await worker.outcome(url, manager=manager)

        assert (outcome.result, outcome.attempts) == ("fetch-error", 1)
        assert outcome.detail.startswith("forbidden: the address may not be reached")
        assert listener.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "data:,hello",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1:25/",
        "http://[::1",
    ],
)
async def test_a_redirect_that_may_not_be_taken_fails_its_record(
    trial: Trials, location: str
) -> None:
    """Faults row 25."""
    async with Origin() as origin, trial() as worker:
        origin.add("/", b"", status=302, headers={"Location": location})
        outcome = await worker.outcome(origin.url("/"))

    assert (outcome.result, outcome.attempts) == ("fetch-error", 1)
    assert outcome.detail.startswith("forbidden: redirect refused")


async def test_the_twenty_first_redirect_fails_its_record(trial: Trials) -> None:
    """Faults row 27: a chain, and a loop."""
    async with Origin() as origin, trial() as worker:
        for number in range(21):
            headers = {"Location": f"/{number + 1}"}
            origin.add(f"/{number}", b"", status=302, headers=headers)
        origin.add("/21", b"ok")
        origin.add("/loop", b"", status=307, headers={"Location": "/loop"})
        twenty = await worker.outcome(origin.url("/1"))
        twenty_one = await worker.outcome(origin.url("/0"))
        before = len(origin.log)
        loop = await worker.outcome(origin.url("/loop"))
        asked = len(origin.log) - before

    assert (twenty.result, twenty.body) == ("success", b"ok")
    for refused in (twenty_one, loop):
        assert (refused.result, refused.attempts) == ("fetch-error", 1)
        assert refused.detail.endswith("more than 20 redirects")
    assert asked == 21


async def test_secrets_reach_no_other_origin_by_a_redirect(trial: Trials) -> None:
    """Faults row 28: two ports are two origins; within one they stay."""
    secret = {
        "Authorization": "Bearer s",
        "Cookie": "s=1",
        "X-Api-Key": "s",
        "Proxy-Authorization": "s",
    }
    async with Origin() as first, Origin() as second, trial() as worker:
        first.add("/", b"", status=302, headers={"Location": "/here"})
        first.add("/here", b"", status=307, headers={"Location": second.url("/")})
        second.add("/", b"", status=307, headers={"Location": first.url("/back")})
        first.add("/back", b"ok")
        sent = {name: value for name, value in secret.items() if _may_send(name)}
        request = Request(first.url("/"), headers={**sent, "Accept": "a/b"})
        outcome = await worker.outcome(request)

    assert outcome.body == b"ok"
    kept = [
        {name for name in sent if name.lower() in seen.headers}
        for seen in (*first.log[:2], second.log[0], first.log[2])
    ]
    # What was left out once does not come back.
    assert kept == [set(sent), set(sent), set(), set()]
    assert {seen.headers["accept"] for seen in (*first.log, *second.log)} == {"a/b"}


def _may_send(name: str) -> bool:
    try:
        Request("https://a.example/", headers={name: "x"})
    except TypeError:
        return False
    return True


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (" /to ", "/to"),
        ("/a/../b/./to", "/b/to"),
        ("?q", "/from?q"),
        ("/to#part", "/to"),
        ("/to%0d%0aX-Evil:%20x", "/to%0d%0aX-Evil:%20x"),
        ("/a b", "/a%20b"),
        ("//{host}/to", "/to"),
        ("http:/{host}/to", "/http-slash"),
        ("http:////{host}/to", "/to"),
        ("\\\\{host}\\to", "/to"),
    ],
)
async def test_a_location_is_followed_as_browsers_do(
    trial: Trials, location: str, path: str
) -> None:
    """Faults row 29: and no header comes of it."""
    async with Origin() as origin, trial() as worker:
        host = origin.url("").removeprefix("http://")
        origin.add(
            "/from", b"", status=302, headers={"Location": location.format(host=host)}
        )
        await worker.outcome(origin.url("/from"))

    seen = origin.log[1]
    if path == "/http-slash":  # relative, since the scheme is that of the base
        path = f"/{host}/to"
    assert seen.path == path
    assert "x-evil" not in seen.headers


async def test_the_body_of_a_redirect_is_not_read(trial: Trials) -> None:
    """Faults row 31: a bomb behind a 302 is neither waited for nor decoded.

    The origin gets rid of what its and our sockets hold, and hears no more.
    """
    zeros = zlib.compressobj(wbits=31)
    bomb = zeros.compress(bytes(4 * MiB)) + zeros.flush(zlib.Z_FULL_FLUSH)
    sent = 0

    async def endless(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        location = f"Location: {target.url}\r\nContent-Encoding: gzip\r\n\r\n"
        writer.write(f"HTTP/1.1 302 Go\r\n{location}".encode())
        while True:
            sent += len(bomb)
            writer.write(bomb)
            await writer.drain()

    async with (
        Scripted(REPLY) as target,
        Scripted(endless) as origin,
        trial() as worker,
    ):
        outcome = await worker.outcome(origin.url)
        before = resident_bytes()
        await worker.outcome(origin.url)
        assert resident_bytes() - before < 16 * MiB

    assert (outcome.body, outcome.downloaded) == (b"ok", 2)
    assert sent < 64 * MiB


async def test_the_environment_names_no_proxy_for_a_record(
    trial: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults row 34: neither a proxy nor where not to use one."""
    async with Scripted(b"HTTP/1.1 502 No\r\n\r\n") as proxy, Origin() as origin:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "*")
        origin.add("/", b"ok")
        async with trial() as worker:
            outcome = await worker.outcome(origin.url("/"))

        assert outcome.body == b"ok"
        assert proxy.connections == 0
