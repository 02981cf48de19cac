"""Transfers through a proxy: targets are judged here first (guarantee 8, faults 34).

The origin is on loopback, and the proxy leads to it from an address of the internet.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest
import trustme

from schemas.addresses import AddressPolicy
from schemas.proxies import Proxy
from tests.integration.middleman import Middleman
from tests.integration.wire import Scripted, get
from workers.demo.origin import Origin
from workers.exchange import Fault, TransferError
from workers.reach import Endpoint
from workers.transport import Transport, TransportLimits

PUBLIC = "93.184.216.34"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def origin() -> AsyncIterator[Scripted]:
    async with Scripted(REPLY, keep=True) as running:
        yield running


def through(
    middleman: Middleman,
    addresses: Iterable[str] | Callable[[str], Iterable[str]] = (PUBLIC,),
    *,
    scheme: str = "http",
    user: str = "",
    proxy_resolves: bool = False,
    policy: AddressPolicy | None = None,
    closed: Iterable[Endpoint] = (),
    ca_bundle: str | None = None,
    connect_timeout: float = 10.0,
) -> Transport:
    """A transport whose names all have ``addresses``; loopback is forbidden to it."""
    resolve = addresses if callable(addresses) else lambda host: addresses
    return Transport(
        TransportLimits(connect_timeout=connect_timeout),
        policy or AddressPolicy(),
        proxy=Proxy.parse(f"{scheme}://{user}127.0.0.1:{middleman.port}"),
        proxy_resolves=proxy_resolves,
        resolve=resolve,
        closed=closed,
        ca_bundle=ca_bundle,
    )


async def failure(transport: Transport, url: str) -> TransferError:
    async with transport:
        with pytest.raises(TransferError) as failed:
            await get(transport, url)
    return failed.value


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_the_proxy_is_asked_for_the_address_that_was_judged(
    origin: Scripted, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The origin hears its name, the proxy no header; NO_PROXY is nothing."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    async with (
        Middleman({f"{PUBLIC}:80": origin.port}) as middleman,
        through(middleman, scheme=scheme) as transport,
    ):
        url, header = "http://some.example/x", ("X-Ours", "s")
        first, second = [await get(transport, url, header) for _ in range(2)]
        assert first.body == second.body == b"ok"

        verb = "SOCKS" if scheme == "socks5h" else "CONNECT"
        assert middleman.asked == [f"{verb} {PUBLIC}:80"]
        assert b"X-Ours" not in b"".join(middleman.heads)
        assert all(b"Host: some.example\r\n" in head for head in origin.heads)
        assert all(b"X-Ours: s\r\n" in head for head in origin.heads)
        # The proxy's own head is no response.
        assert [name for name, _ in first.heads[0].headers] == ["Content-Length"]


async def test_a_proxy_that_resolves_is_given_names_that_passed_here(
    origin: Scripted,
) -> None:
    """Absolute form, as proxies expect it that filter by name."""
    async with (
        Middleman({"some.example": origin.port}) as middleman,
        through(middleman, proxy_resolves=True) as transport,
    ):
        assert (await get(transport, "http://some.example/x")).body == b"ok"

        assert middleman.asked == ["GET http://some.example/x"]


@pytest.mark.parametrize("proxy_resolves", [False, True])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize(
    ("host", "addresses", "reason"),
    [
        ("some.example", ["10.0.0.1"], "private"),
        ("some.example", ["169.254.169.254"], "cloud metadata"),
        ("some.example", [PUBLIC, "127.0.0.1"], "loopback"),
        ("some.example", ["::ffff:127.0.0.1"], "loopback"),
        ("127.0.0.1", [PUBLIC], "loopback"),
        ("[64:ff9b::7f00:1]", [PUBLIC], "NAT64"),
    ],
)
async def test_a_forbidden_target_is_refused_before_the_proxy_is_asked(
    scheme: str, proxy_resolves: bool, host: str, addresses: list[str], reason: str
) -> None:
    """Faults 20 to 23: one forbidden answer among others is a sign of rebinding."""
    async with Middleman({}) as middleman:
        transport = through(
            middleman, addresses, scheme=scheme, proxy_resolves=proxy_resolves
        )
        error = await failure(transport, f"http://{host}/")

    assert error.fault is Fault.FORBIDDEN
    assert f"the address may not be reached: {reason} (" in error.detail
    assert middleman.asked == []


async def test_a_second_answer_of_the_resolver_is_never_used(origin: Scripted) -> None:
    """Faults 22: another address later is judged like the first."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    async with (
        Middleman({f"{PUBLIC}:80": origin.port}) as middleman,
        through(middleman, lambda host: next(answers)) as transport,
    ):
        for _ in range(3):
            await get(transport, "http://some.example/")
        with pytest.raises(TransferError, match="loopback"):
            await get(transport, "http://other.example/")

        assert middleman.asked == [f"CONNECT {PUBLIC}:80"]


async def test_excepted_addresses_alone_are_good_beside_a_forbidden_one(
    origin: Scripted,
) -> None:
    async with (
        Middleman({"127.0.0.1:80": origin.port}) as middleman,
        through(
            middleman,
            ["10.0.0.1", PUBLIC, "127.0.0.1"],
            policy=AddressPolicy.parse("loopback"),
        ) as transport,
    ):
        assert (await get(transport, "http://some.example/")).body == b"ok"


async def test_a_server_of_our_own_is_not_reached_through_the_proxy_either() -> None:
    """Faults 33."""
    async with Middleman({}) as middleman:
        transport = through(middleman, closed=[Endpoint(PUBLIC, 6380)])
        error = await failure(transport, "http://some.example:6380/")

    assert error.fault is Fault.FORBIDDEN
    assert "a server of this worker's own" in error.detail
    assert middleman.asked == []


async def test_the_next_attempt_takes_the_next_address(origin: Scripted) -> None:
    second = "93.184.216.35"
    async with (
        Middleman({f"{second}:80": origin.port}) as middleman,
        through(middleman, [PUBLIC, second]) as transport,
    ):
        with pytest.raises(TransferError) as failed:
            await get(transport, "http://some.example/")
        taken = await get(transport, "http://some.example/")

    assert failed.value.fault is Fault.OFFLINE
    assert taken.body == b"ok"
    assert middleman.asked == [f"CONNECT {PUBLIC}:80", f"CONNECT {second}:80"]


@pytest.mark.parametrize(
    ("scheme", "refusal", "fault"),
    [
        ("http", 403, Fault.FORBIDDEN),
        ("http", 407, Fault.OFFLINE),
        ("http", 502, Fault.OFFLINE),
        ("socks5h", 2, Fault.FORBIDDEN),
        ("socks5h", 5, Fault.OFFLINE),
    ],
)
async def test_a_refusal_of_the_proxy_is_told_as_such(
    scheme: str, refusal: int, fault: Fault
) -> None:
    """Its rules are final; what else ails it may pass, and blames no origin."""
    async with Middleman({}, refusal=refusal) as middleman:
        transport = through(middleman, scheme=scheme, user="us%3Aer:p%40ss@")
        error = await failure(transport, "http://some.example/")

    assert error.fault is fault
    assert f"the proxy {scheme}://127.0.0.1:{middleman.port}: " in error.detail
    assert "p@ss" not in str(error)
    [sent] = middleman.heads
    assert (b"Basic dXM6ZXI6cEBzcw==" in sent) or sent == b"us:er:p@ss"


async def test_a_proxy_that_is_away_is_offline() -> None:
    async with Middleman({}) as middleman:
        pass
    for scheme in ("http", "https", "socks5h"):
        error = await failure(through(middleman, scheme=scheme), "http://some.example/")
        assert error.fault is Fault.OFFLINE


async def test_a_name_that_cannot_be_resolved_is_offline() -> None:
    def resolve(host: str) -> list[str]:
        raise OSError(f"no {host}")

    async with Middleman({}) as middleman:
        error = await failure(through(middleman, resolve), "http://some.example/")

    assert error.fault is Fault.OFFLINE
    assert error.detail == "the name could not be resolved: no some.example"


async def test_a_resolver_that_hangs_holds_nobody_up() -> None:
    """Faults 24: neither the exchange, beyond its timeout, nor who closes."""
    release, asked = threading.Event(), threading.Event()

    def resolve(host: str) -> list[str]:
        asked.set()
        release.wait(60)
        return [PUBLIC]

    try:
        async with Middleman({}) as middleman, asyncio.timeout(20):
            transport = through(middleman, resolve, connect_timeout=0.1)
            error = await failure(transport, "http://some.example/")
            assert error.fault is Fault.OFFLINE
            assert "no answer within 0.1 s" in error.detail

            asked.clear()
            patient = through(middleman, resolve)
            task = asyncio.create_task(failure(patient, "http://some.example/"))
            await asyncio.to_thread(asked.wait, 10)
            await patient.aclose()
            assert (await task).fault is Fault.STOPPED
    finally:
        release.set()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serving(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_tls_is_with_the_origin_by_its_name(
    authority: trustme.CA, bundle: str, scheme: str
) -> None:
    tls = serving(authority, "127.0.0.1") if scheme == "https" else None
    async with Origin(tls=serving(authority, "some.example")) as origin:
        origin.add("/x", b"ok")
        port = int(origin.url("").rpartition(":")[2])
        async with (
            Middleman({f"{PUBLIC}:443": port}, tls=tls) as middleman,
            through(middleman, scheme=scheme, ca_bundle=bundle) as transport,
        ):
            assert (await get(transport, "https://some.example/x")).body == b"ok"
            with pytest.raises(TransferError) as failed:
                await get(transport, "https://other.example/x")

    assert failed.value.fault is Fault.TLS


async def test_a_proxy_that_cannot_prove_its_name_gets_nothing(
    authority: trustme.CA, bundle: str
) -> None:
    async with Middleman({}, tls=serving(authority, "other.example")) as middleman:
        transport = through(middleman, scheme="https", ca_bundle=bundle)
        error = await failure(transport, "https://some.example/x")

    assert error.fault is Fault.OFFLINE
    assert "the proxy https://127.0.0.1" in error.detail
    assert middleman.asked == []
