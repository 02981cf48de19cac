"""The server that runs the gateway's app: uvicorn, with our signals and log."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from broker.gateway.gateway import Gateway
from schemas.errors import ConfigError

# Streams of server-sent events end when told; a reader may not take their end.
STOP_SECONDS = 3


class Server:
    """Answers HTTP on one address until told to stop."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._listener = _listen(host, port)
        self._gateway: Gateway = app.state.gateway
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _Quiet(config)

    @property
    def address(self) -> str:
        """Where it listens, as an origin."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def serve(self) -> None:
        """Answer requests until ``stop``; open ones have three seconds to end."""
        try:
            await self._server.serve([self._listener])
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Make ``serve`` end soon; callable repeatedly."""
        self._gateway.stop()
        self._server.should_exit = True


class _Quiet(uvicorn.Server):
    """Leaves signals to the process, which has handlers of its own."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}") from error
