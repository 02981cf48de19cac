"""No worker connects to a forbidden address: guarantee 8, faults 20 to 23.

A listener counts: a refused address must not have seen even a connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from schemas.addresses import AddressPolicy
from tests.integration.wire import Scripted, get, open_transport
from workers.guard import SOCKET_BAD, Dialled, Guard, Opened
from workers.reach import Endpoint, Reach, redis_endpoints
from workers.transport import Fault, TransferError, Transport, TransportLimits

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TCP = (socket.SOCK_STREAM, socket.IPPROTO_TCP)


@pytest.fixture
async def listener() -> AsyncIterator[Scripted]:
    async with Scripted(REPLY, keep=True) as running:
        yield running


async def refusal(policy: AddressPolicy, url: str) -> TransferError:
    async with Transport(TransportLimits(), policy) as transport:
        with pytest.raises(TransferError) as failed:
            await get(transport, url)
    return failed.value


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost"]
)
async def test_a_forbidden_address_is_never_dialled(
    listener: Scripted, host: str
) -> None:
    """Spellings reach the hook only if a check before it was forgotten."""
    error = await refusal(AddressPolicy(), f"http://{host}:{listener.port}/")

    assert error.fault is Fault.FORBIDDEN
    assert "loopback (" in error.detail
    assert listener.connections == 0


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.0.1", "private"),
        ("169.254.169.254", "cloud metadata"),
        ("0.0.0.0", "this network"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "NAT64"),
        ("[fe80::1]", "link-local"),
    ],
)
async def test_the_reason_is_that_of_the_address_dialled(
    address: str, reason: str
) -> None:
    error = await refusal(AddressPolicy(), f"http://{address}/")

    assert error.fault is Fault.FORBIDDEN
    assert f"the address may not be reached: {reason} (" in error.detail


@pytest.mark.parametrize("networks", ["127.0.0.0/8", "loopback"])
async def test_an_excepted_address_is_dialled_by_name_too(
    listener: Scripted, networks: str
) -> None:
    """Though ``localhost`` may lead to ::1 first, which is refused in one case."""
    policy = AddressPolicy.parse(networks)
    async with Transport(TransportLimits(), policy) as transport:
        for host in ("127.0.0.1", "localhost", "some.localhost"):
            taken = await get(transport, f"http://{host}:{listener.port}/")
            assert taken.body == b"ok"


async def test_the_refusal_of_one_exchange_is_not_that_of_the_next(
    listener: Scripted,
) -> None:
    async with open_transport() as transport:
        with pytest.raises(TransferError) as forbidden:
            await get(transport, "http://10.0.0.1/")
        async with Scripted(b"") as gone:
            pass
        with pytest.raises(TransferError) as offline:
            await get(transport, gone.url)

        assert forbidden.value.fault is Fault.FORBIDDEN
        assert offline.value.fault is Fault.OFFLINE
        assert (await get(transport, listener.url)).body == b"ok"


async def test_a_connection_is_not_shared_with_another_policy(
    listener: Scripted,
) -> None:
    async with open_transport() as permitted:
        await get(permitted, listener.url)
        error = await refusal(AddressPolicy(), listener.url)

    assert error.fault is Fault.FORBIDDEN
    assert listener.connections == 1


async def test_every_new_connection_is_checked_though_one_was_allowed(
    listener: Scripted,
) -> None:
    """Faults 22: a second lookup, or another port of the same host, is no way round."""
    async with open_transport() as transport:
        await get(transport, listener.url)
        for host in ("10.0.0.1", "[fd00:ec2::254]"):
            with pytest.raises(TransferError) as failed:
                await get(transport, f"http://{host}:{listener.port}/")
            assert failed.value.fault is Fault.FORBIDDEN


def test_after_a_refusal_only_what_an_operator_excepted_is_dialled() -> None:
    """Faults 23: public and private answers for one name are a sign of rebinding."""
    guard = Guard(Reach(AddressPolicy.parse("127.0.0.0/8")))
    private = Dialled(socket.AF_INET, *TCP, ("10.0.0.1", 80))
    public = Dialled(socket.AF_INET, *TCP, ("8.8.8.8", 80))
    excepted = Dialled(socket.AF_INET, *TCP, ("127.0.0.1", 80))

    before = guard.open_socket(0, public)
    refused = guard.open_socket(0, private)
    after = guard.open_socket(0, public)
    allowed = guard.open_socket(0, excepted)

    assert isinstance(before, Opened)
    assert (refused, after) == (SOCKET_BAD, SOCKET_BAD)
    assert isinstance(allowed, Opened)
    assert guard.refusal == "private (10.0.0.0/8)"
    guard.reset()
    assert isinstance(guard.open_socket(0, public), Opened)


def test_behind_a_proxy_nothing_but_the_proxy_is_dialled() -> None:
    """Should anything ever lead past it: its port is the only one."""
    guard = Guard(Reach(AddressPolicy.parse("loopback")), proxy_port=3128)

    proxy = guard.open_socket(0, Dialled(socket.AF_INET, *TCP, ("10.0.0.1", 3128)))
    origin = guard.open_socket(0, Dialled(socket.AF_INET, *TCP, ("127.0.0.1", 80)))

    assert isinstance(proxy, Opened)
    assert origin == SOCKET_BAD
    assert guard.refusal == "not the proxy"


@pytest.mark.parametrize(
    "address",
    [
        Dialled(socket.AF_UNIX, *TCP, b"/run/redis.sock"),
        Dialled(socket.AF_INET, *TCP, b""),
        Dialled(-5, *TCP, ("8.8.8.8", 80)),
        Dialled(socket.AF_INET, 99, 99, ("8.8.8.8", 80)),
        Dialled(socket.AF_INET, *TCP, ("", 80)),
    ],
)
def test_the_hook_refuses_what_it_does_not_understand_and_never_raises(
    address: Dialled,
) -> None:
    guard = Guard(Reach(AddressPolicy()))

    assert guard.open_socket(0, address) == SOCKET_BAD
    assert guard.refusal or guard.failure


@pytest.mark.parametrize("closed", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "0.0.0.0"])
async def test_a_server_of_our_own_is_reached_under_no_address_of_this_machine(
    listener: Scripted, closed: str, host: str
) -> None:
    """Faults 33: though the operator excepted the network that it is in."""
    policy = AddressPolicy.parse("loopback, 0.0.0.0")
    endpoint = Endpoint(closed, listener.port)
    async with (
        Scripted(REPLY) as other,
        Transport(TransportLimits(), policy, closed=[endpoint]) as transport,
    ):
        with pytest.raises(TransferError) as failed:
            await get(transport, f"http://{host}:{listener.port}/")

        assert failed.value.fault is Fault.FORBIDDEN
        assert "a server of this worker's own" in failed.value.detail
        assert listener.connections == 0
        assert (await get(transport, other.url)).body == b"ok"


async def test_a_server_elsewhere_is_closed_at_its_own_address_alone(
    listener: Scripted,
) -> None:
    elsewhere = Endpoint("192.0.2.7", listener.port)
    reach = Reach(AddressPolicy.parse("loopback, 192.0.2.0/24"), (elsewhere,))

    assert reach.refusal("192.0.2.7", listener.port)
    assert reach.refusal("::ffff:192.0.2.7", listener.port)
    assert not reach.excepts("192.0.2.7", listener.port)
    assert reach.refusal("192.0.2.8", listener.port) is None
    assert reach.refusal("192.0.2.7", 80) is None
    assert reach.refusal("127.0.0.1", listener.port) is None


def test_the_endpoints_of_redis_are_those_of_its_url() -> None:
    assert redis_endpoints("redis://:pw@127.0.0.1:7000/0") == (("127.0.0.1", 7000),)
    assert redis_endpoints("rediss://[::1]") == (("::1", 6379),)
    assert redis_endpoints("unix:///run/redis.sock?db=1") == ()
    assert Endpoint("127.0.0.1", 6379) in redis_endpoints("redis://localhost")


async def test_no_descriptor_is_left_behind() -> None:
    before = os.listdir("/dev/fd")

    async with Scripted(REPLY) as listener, open_transport() as transport:
        for _ in range(5):
            await get(transport, listener.url)
            with pytest.raises(TransferError):
                await get(transport, "http://10.0.0.1/")

    await asyncio.sleep(0)
    assert len(os.listdir("/dev/fd")) == len(before)
