"""The proxy of all transfers: how an operator names it, and what is never shown."""

from __future__ import annotations

import pytest

from broker.settings import Settings
from schemas.errors import ConfigError
from schemas.proxies import Proxy


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("http://egress:3128", Proxy("http", "egress", 3128)),
        (" HTTPS://egress:443/ ", Proxy("https", "egress", 443)),
        ("socks5h://[::1]:1080", Proxy("socks5h", "::1", 1080)),
        (
            "http://us%3Aer:p%40ss@egress:1",
            Proxy("http", "egress", 1, "us:er", "p@ss"),
        ),
    ],
)
def test_a_proxy_is_read(value: str, proxy: Proxy) -> None:
    assert Proxy.parse(value) == proxy


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("egress:3128", "its scheme is"),
        ("egress", "its scheme is ''"),
        ("ftp://egress:21", "its scheme is 'ftp'"),
        ("socks5://egress:1080", "its scheme is 'socks5'"),
        ("http://egress", "a host and a port"),
        ("http://:3128", "a host and a port"),
        ("http://u:hunter2@egress:3128/path", "no path"),
        ("http://u:hunter2@egress:port", "cannot be used"),
        ("http://u:hunter2#@egress:3128", "it is no URL"),
        ("http://u:hunter2@[::1:1", "cannot be used"),
        ("u:hunter2@egress:3128", "its scheme is"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    value: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        Proxy.parse(value)

    assert "BGFETCH_PROXY: " in str(refused.value)
    assert "give http://HOST:PORT" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_no_text_of_a_proxy_shows_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGFETCH_PROXY", "http://user:hunter2@[::1]:3128")

    settings = Settings.load()

    assert settings.proxy is not None
    assert settings.proxy.password == "hunter2"
    assert str(settings.proxy) == "http://***@[::1]:3128"
    assert settings.proxy.url == "http://[::1]:3128"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environment_names_no_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Faults 34."""
    monkeypatch.setenv(name, "http://127.0.0.1:1/")

    assert Settings.load().proxy is None
