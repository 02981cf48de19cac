"""What becomes of a record whose origin cannot prove its name, or breaks TLS."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.trial import Outcome, Trials
from tests.integration.wire import Scripted
from workers.demo.origin import Origin

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NUL = "localhost\0.evil.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def trusted(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make the workers of this process trust this authority, and no other."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setattr("certifi.where", lambda: str(bundle))


def serving(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def refused(outcome: Outcome) -> bool:
    """FE at once: what cannot be verified now cannot be a moment later."""
    at_once = (outcome.result, outcome.attempts) == ("fetch-error", 1)
    return at_once and outcome.detail.startswith("tls: ")


async def test_an_origin_that_proves_its_name_is_fetched_from(
    trial: Trials, authority: trustme.CA
) -> None:
    tls = serving(authority.issue_cert("127.0.0.1", "localhost"))
    async with Scripted(REPLY, tls=tls) as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert outcome.body == b"ok"


async def test_a_certificate_that_proves_nothing_fails_its_record(
    trial: Trials, authority: trustme.CA
) -> None:
    """Faults row 61: expired, not yet valid, for another name, of a stranger."""
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    leaves = [
        authority.issue_cert(
            "127.0.0.1", not_before=now - 2 * day, not_after=now - day
        ),
        authority.issue_cert(
            "127.0.0.1", not_before=now + day, not_after=now + 2 * day
        ),
        authority.issue_cert("127.0.0.2", "localhost"),
        trustme.CA().issue_cert("127.0.0.1"),
    ]
    async with trial() as worker:
        for leaf in leaves:
            async with Scripted(REPLY, tls=serving(leaf)) as origin:
                assert refused(await worker.outcome(origin.url))
                assert origin.heads == []


@pytest.mark.parametrize("where", ["common name", "alternative name"])
async def test_a_name_does_not_end_at_a_nul(
    trial: Trials, authority: trustme.CA, tmp_path: Path, where: str
) -> None:
    """Faults row 61: NUL in CN, which once made ``localhost`` of it (CVE-2009-2417)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(_with_nul(authority, tmp_path, common=where == "common name"))
    async with Scripted(REPLY, tls=tls) as origin, trial() as worker:
        outcome = await worker.outcome(f"https://localhost:{origin.port}/")

        assert refused(outcome)
        assert origin.heads == []


def _with_nul(authority: trustme.CA, directory: Path, *, common: bool) -> Path:
    """A certificate, and its key, for a name that holds a NUL."""
    signer = serialization.load_pem_private_key(
        authority.private_key_pem.bytes(), password=None
    )
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = (
        ec.generate_private_key(ec.SECP256R1()),
        datetime.datetime.now(datetime.UTC),
    )
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    named = x509.NameAttribute(NameOID.COMMON_NAME, NUL if common else "x")
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=x509.Name([named]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(days=1),
        not_valid_after=now + datetime.timedelta(days=1),
    )
    if not common:
        names = x509.SubjectAlternativeName([x509.DNSName(NUL)])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    path = directory / "nul.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_an_old_version_of_tls_fails_its_record(
    trial: Trials, authority: trustme.CA
) -> None:
    """Faults row 61: TLS 1.0 and 1.1. The origin may say so, or hang up."""
    tls = serving(authority.issue_cert("127.0.0.1"))
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version = ssl.TLSVersion.TLSv1
    tls.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Scripted(REPLY, tls=tls) as origin, trial(max_attempts=2) as worker:
        outcome = await worker.outcome(origin.url)

        assert outcome.result == "fetch-error"
        assert origin.heads == []


@pytest.mark.parametrize(
    ("head", "succeeds"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),
    ],
    ids=["HTTP/1.1", "HTTP/1.0", "length"],
)
async def test_an_end_without_close_notify_is_an_end_only_where_it_was_told(
    trial: Trials, authority: trustme.CA, head: bytes, succeeds: bool
) -> None:
    """Faults row 61: whoever cuts the connection could forge the end of a body."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"hello")
        await writer.drain()
        writer.get_extra_info("socket").shutdown(2)

    tls = serving(authority.issue_cert("127.0.0.1"))
    async with Scripted(cut, tls=tls) as origin, trial(max_attempts=2) as worker:
        outcome = await worker.outcome(origin.url)

    if succeeds:
        assert (outcome.result, outcome.body) == ("success", b"hello")
    else:
        assert (outcome.result, outcome.body) == ("fetch-error", None)
        assert outcome.attempts > 1


async def test_a_second_handshake_before_the_answer_changes_nothing(
    trial: Trials, authority: trustme.CA, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """Faults row 61: renegotiation, which TLS 1.3 has no more.

    OpenSSL knows the kind alone that proves to be of the same peer (RFC 5746), and
    verifies its certificate again; so what comes after it is as good as before.
    """
    pem = tmp_path / "leaf.pem"
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["-tls1_2", "-cert", str(pem), "-accept", f"127.0.0.1:{port}"]
    server = await asyncio.create_subprocess_exec(
        *(tool("openssl"), "s_server", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        await _until(server.stdout, b"ACCEPT")
        async with trial() as worker:
            working = asyncio.create_task(worker.outcome(f"https://127.0.0.1:{port}/"))
            await _until(server.stdout, b"Accept-Encoding: ")
            server.stdin.write(b"r\n")  # its command, if it reads nothing before it
            await _until(server.stdout, b"SSL_do_handshake -> 1")
            server.stdin.write(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\n")
            outcome = await working
    finally:
        server.kill()
        await server.wait()

    assert (outcome.result, outcome.body) == ("success", b"ok")


async def _until(output: asyncio.StreamReader, words: bytes) -> None:
    async with asyncio.timeout(30):
        while words not in (line := await output.readline()):
            assert line, f"it never said {words!r}"


async def test_a_redirect_from_https_to_http_fails_its_record(
    trial: Trials, authority: trustme.CA
) -> None:
    """Faults row 26: nobody listens to the answer of the http origin."""
    tls = serving(authority.issue_cert("127.0.0.1"))
    async with Origin(tls=tls) as secure, Origin() as plain, trial() as worker:
        plain.add("/", b"ok")
        secure.add("/", b"", status=302, headers={"Location": plain.url("/")})
        plain.add("/up", b"", status=302, headers={"Location": secure.url("/ok")})
        secure.add("/ok", b"ok")
        down = await worker.outcome(secure.url("/"))
        up = await worker.outcome(plain.url("/up"))

        assert (down.result, down.attempts) == ("fetch-error", 1)
        assert "from https to http" in down.detail
        assert (up.result, up.body) == ("success", b"ok")
        assert [seen.path for seen in plain.log] == ["/up"]
