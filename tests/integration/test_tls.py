"""TLS, verified always (faults 61), and HTTP/2 over it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.integration.wire import LOOPBACK, Scripted, get, open_transport
from workers.demo.origin import Origin
from workers.transport import (
    Fault,
    TransferError,
    Transport,
    TransportLimits,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(bundle: str) -> Transport:
    return Transport(TransportLimits(), LOOPBACK, ca_bundle=bundle)


async def test_a_trusted_origin_is_spoken_to_in_confidence(
    authority: trustme.CA, bundle: str
) -> None:
    async with (
        Origin(tls=serving(authority, "127.0.0.1")) as origin,
        trusting(bundle) as transport,
    ):
        origin.add("/", b"secret")

        bodies = [(await get(transport, origin.url("/"))).body for _ in range(2)]

        assert bodies == [b"secret", b"secret"]
        assert origin.connections == 1


async def test_an_origin_nobody_vouches_for_is_refused(authority: trustme.CA) -> None:
    async with (
        Origin(tls=serving(authority, "127.0.0.1")) as origin,
        open_transport() as transport,
    ):
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url("/"))

    assert failed.value.fault is Fault.TLS
    assert origin.log == []


async def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, bundle: str
) -> None:
    async with (
        Origin(tls=serving(authority, "elsewhere.example")) as origin,
        trusting(bundle) as transport,
    ):
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url("/"))

    assert failed.value.fault is Fault.TLS


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_an_old_version_of_tls_is_refused(
    authority: trustme.CA, bundle: str
) -> None:
    context = serving(authority, "127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Origin(tls=context) as origin, trusting(bundle) as transport:
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url("/"))

    # The server may say why, or just hang up.
    assert failed.value.fault in (Fault.TLS, Fault.NETWORK)
    assert origin.log == []


async def test_an_origin_that_speaks_no_tls_is_refused() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 No\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with Scripted(plain) as origin, open_transport() as transport:
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url.replace("http:", "https:"))

    assert failed.value.fault is Fault.TLS


async def test_a_handshake_that_is_cut_off_is_the_networks_fault() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)

    async with Scripted(cut) as origin, open_transport() as transport:
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url.replace("http:", "https:"))

    assert failed.value.fault is Fault.NETWORK


async def test_a_body_that_ends_without_close_notify_is_cut_short(
    authority: trustme.CA, bundle: str
) -> None:
    """Whoever cuts the connection could forge the end of a body without a length."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(serving(authority, "127.0.0.1"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await writer.drain()
        raw = writer.transport.get_extra_info("socket")
        raw.shutdown(2)

    async with Scripted(cut) as origin, trusting(bundle) as transport:
        with pytest.raises(TransferError) as failed:
            await get(transport, origin.url.replace("http:", "https:"))

    assert failed.value.fault is Fault.NETWORK


NGINX = """
pid {here}/pid; error_log {here}/log; master_process off;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {here}/1; proxy_temp_path {here}/2;
  fastcgi_temp_path {here}/3; uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {here}/cert.pem; ssl_certificate_key {here}/key.pem;
    location /big {{ root {here}; }}
    location ~ "^/([0-9]+)$" {{ return 200 "file $1"; }}
    location / {{ return 404; }}
  }}
}}
"""


@pytest.fixture
def nginx(
    authority: trustme.CA, tmp_path: Path, tool: Callable[[str], str]
) -> Iterator[str]:
    """The URL of an nginx that speaks HTTP/2 and has a file for each number."""
    program = tool("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(tmp_path / "cert.pem"), append=True)
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(here=tmp_path, port=port))
    # It goes into the background once it listens.
    subprocess.run([program, "-c", str(config)], check=True, timeout=20)
    yield f"https://127.0.0.1:{port}/"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


async def test_http_2_is_spoken_where_it_is_offered(nginx: str, bundle: str) -> None:
    async with trusting(bundle) as transport:
        got = await asyncio.gather(*(get(transport, f"{nginx}{n}") for n in range(50)))
        missing = await get(transport, f"{nginx}nothing")

    assert [bytes(taken.body) for taken in got] == [b"file %d" % n for n in range(50)]
    # HTTP/2 has no reason phrase, and its header names are in lower case.
    assert {taken.heads[0].status_text for taken in got} == {""}
    assert got[7].heads[0].get_all("content-length") == ["6"]
    assert ("content-length", "6") in got[7].heads[0].headers
    assert missing.heads[0].status == 404


async def test_transfers_of_one_http_2_connection_share_a_limited_rate(
    nginx: str, bundle: str, tmp_path: Path
) -> None:
    """A stream that waits for its turn holds up no other."""
    (tmp_path / "big").write_bytes(bytes(range(256)) * 1024)
    limits = TransportLimits(rate=2_000_000)

    async with Transport(limits, LOOPBACK, ca_bundle=bundle) as transport:
        got = await asyncio.gather(*(get(transport, f"{nginx}big") for _ in range(8)))

    assert {bytes(taken.body) for taken in got} == {bytes(range(256)) * 1024}
