"""What origins would have a client do, and what this one does not.

Beyond the list of faults: browsers follow such words, and libcurl could.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.integration.trial import Trials
from tests.integration.wire import Scripted, resident_bytes
from workers.demo.origin import Origin

OK = b"HTTP/1.1 200 OK\r\n"
REPLY = OK + b"Content-Length: 2\r\n\r\nok"
MiB = 1024 * 1024


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setattr("certifi.where", lambda: str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_another_service_that_an_origin_names_is_not_used(
    trial: Trials, tls: ssl.SSLContext
) -> None:
    """Guarantee 8: Alt-Svc (RFC 7838) would be a way round the checks of redirects."""
    async with (
        Origin(tls=tls) as origin,
        Scripted(REPLY, tls=tls) as other,
        trial() as worker,
    ):
        services = f'h2=":{other.port}"; ma=3600, http/1.1="127.0.0.1:{other.port}"'
        origin.add("/", b"ok", headers={"Alt-Svc": services, "Connection": "close"})
        outcomes = [await worker.outcome(origin.url("/")) for _ in range(2)]

        assert [outcome.body for outcome in outcomes] == [b"ok", b"ok"]
        assert other.connections == 0


async def test_no_header_but_location_leads_anywhere(trial: Trials) -> None:
    async with Origin() as origin, Scripted(REPLY) as other, trial() as worker:
        headers = {
            "Refresh": f"0; url={other.url}",
            "Link": f"<{other.url}>; rel=preload",
            "Content-Location": other.url,
            "Location": other.url,
        }
        for status in (200, 300, 304, 305, 306):
            origin.add(f"/{status}", b"ok", status=status, headers=headers)
            outcome = await worker.outcome(origin.url(f"/{status}"))
            assert outcome.result == ("success" if status == 200 else "bad-status")

        assert other.connections == 0


async def test_no_cookie_is_kept_nor_any_password_offered(trial: Trials) -> None:
    """Neither by a redirect, nor in the next request; a 401 is a bad status."""
    cookie = {"Set-Cookie": "s=1; Path=/", "Location": "/401"}
    async with Origin() as origin, trial() as worker:
        origin.add("/", b"", status=302, headers=cookie)
        asks = {"WWW-Authenticate": "Negotiate, Basic realm=x", **cookie}
        origin.add("/401", b"no", status=401, headers=asks)
        outcomes = [await worker.outcome(origin.url("/")) for _ in range(2)]

        assert [outcome.result for outcome in outcomes] == ["bad-status"] * 2
        for seen in origin.log:
            assert not {"cookie", "authorization"} & set(seen.headers)


async def test_an_answer_that_comes_before_the_request_is_not_believed_twice(
    trial: Trials,
) -> None:
    """Bytes that were there before it asked are no answer to a later request."""

    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REPLY * 3)
        await reader.read()

    async with Scripted(eager) as origin, trial() as worker:
        outcomes = [await worker.outcome(origin.url) for _ in range(2)]

        assert origin.connections == 2
    assert {outcome.body for outcome in outcomes} == {b"ok"}


async def test_trailers_change_nothing(trial: Trials) -> None:
    """Not the length, nor where the body is from, nor its coding (RFC 9110 § 6.5.1)."""
    trailers = b"Content-Length: 9\r\nLocation: /x\r\nContent-Encoding: gzip\r\n"
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    async with Scripted(chunked + trailers + b"\r\n") as origin, trial() as worker:
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.body) == ("success", b"ok")


async def test_a_body_in_chunks_of_one_byte_arrives_in_little_memory(
    trial: Trials,
) -> None:
    count = 200_000
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    body = chunked + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    async with Scripted(REPLY, body) as origin, trial() as worker:
        await worker.outcome(origin.url)
        before = resident_bytes()
        outcome = await worker.outcome(origin.url)
        assert resident_bytes() - before < 16 * MiB

    assert outcome.body == b"x" * count


async def test_a_body_that_never_ends_nor_goes_on_fails_in_the_end(
    trial: Trials,
) -> None:
    """It told no length, so that nobody knows whether it is whole."""

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"\r\nhello")
        await reader.read()

    stall = timedelta(milliseconds=300)
    async with (
        Scripted(held) as origin,
        trial(max_attempts=1, stall_timeout=stall) as worker,
    ):
        outcome = await worker.outcome(origin.url)

    assert (outcome.result, outcome.body) == ("fetch-error", None)
    assert outcome.detail == "network: less than 1 byte/s for 0.3 s"
