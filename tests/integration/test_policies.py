"""The policy of a scope: at ``fetch()``, on every hop, and on what is stored."""

from __future__ import annotations

import json

import pytest

from broker.cli.app import command_line, run
from broker.keys import FetchKeys
from broker.lanes import LaneHold, Opened, Refusal
from broker.manager import BackgroundFetchManager, connect
from broker.policies import read_policy, write_policy
from broker.settings import Settings
from schemas.errors import InvalidMessage, InvalidURL, QuotaExceeded
from schemas.policies import ScopePolicy
from tests.integration.clock import SCOPE
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine


async def put(manager: BackgroundFetchManager, policy: ScopePolicy) -> None:
    await write_policy(manager.connection, SCOPE, policy)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (ScopePolicy(https_only=True), "http://cdn.example is refused .* not https"),
        (ScopePolicy(deny=("*.example",)), r"'\*.example' is denied"),
        (ScopePolicy(allow=("https://cdn.example",)), "only https://cdn.example is"),
    ],
)
async def test_fetch_refuses_what_the_policy_forbids_and_stores_nothing(
    manager: BackgroundFetchManager,
    settings: Settings,
    policy: ScopePolicy,
    told: str,
) -> None:
    """Issue: allow and deny lists per scope; of several origins the last counts too."""
    await put(manager, policy)
    urls = ["https://cdn.example/1", "http://cdn.example/2"]
    before = await manager.connection.ask("KEYS", "*")

    with pytest.raises(InvalidURL, match=f"{told}.*see `bgfetch scope show`"):
        await manager.fetch("a", urls)

    assert await manager.connection.ask("KEYS", "*") == before
    async with connect(scope="other", settings=settings) as other:
        assert (await other.fetch("a", urls)).id == "a"


async def test_a_policy_that_was_lifted_holds_no_more(
    manager: BackgroundFetchManager,
) -> None:
    await put(manager, ScopePolicy(https_only=True))
    with pytest.raises(InvalidURL):
        await manager.fetch("a", "http://cdn.example/")

    await put(manager, ScopePolicy())

    assert await manager.fetch("a", "http://cdn.example/")


async def test_a_redirect_to_an_origin_that_the_policy_forbids_is_not_followed(
    manager: BackgroundFetchManager, engine: Engine
) -> None:
    """Design §7: on each hop; the record fails and says why, nobody is connected."""
    async with Origin() as forbidden, Origin() as allowed:
        forbidden.add("/b", b"secret")
        target = forbidden.url("/b")
        allowed.add("/a", b"", status=302, headers={"Location": target})
        denied = forbidden.url("").removeprefix("http://")
        await put(manager, ScopePolicy.checked(deny=[denied]))

        registration = await manager.fetch("a", allowed.url("/a"))
        await perform(engine, registration)

        assert registration.failure_reason == "fetch-error"
        [record] = await registration.match_all()
        assert f"{denied!r} is denied" in (await record.refresh()).failure_reason
        assert forbidden.log == []


async def test_a_fetch_keeps_the_policy_under_which_it_was_registered(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """BF-SEC-09: a later change neither breaks nor widens what runs."""
    origin.add("/a", b"", status=302, headers={"Location": "/b"})
    origin.add("/b", b"body")
    registration = await manager.fetch("a", origin.url("/a"))

    await put(manager, ScopePolicy(https_only=True, max_bytes=1))
    await perform(engine, registration)

    assert registration.result == "success"


async def test_a_fetch_stores_no_more_than_the_policy_grants(
    manager: BackgroundFetchManager, engine: Engine, origin: Origin
) -> None:
    """R18: over all of its records; announced or not."""
    await put(manager, ScopePolicy(max_bytes=150))
    for name in "ab":
        origin.add(f"/{name}", b"x" * 100)
    urls = [origin.url("/a"), origin.url("/b")]
    with pytest.raises(QuotaExceeded, match="download_total is 200"):
        await manager.fetch("a", urls, download_total=200)

    registration = await manager.fetch("a", urls)
    await perform(engine, registration)

    assert registration.failure_reason == "quota-exceeded"
    assert registration.downloaded <= 150
    records = [await record.refresh() for record in await registration.match_all()]
    assert sorted((record.result, record.failure_reason) for record in records) == [
        ("quota-exceeded", "more than 150 bytes, by the policy of the scope"),
        ("success", ""),
    ]


async def test_one_lane_alone_counts_the_bytes_that_the_policy_grants(
    settings: Settings,
) -> None:
    """R18."""
    settings = settings.model_copy(update={"lane_size": 1})
    async with connect(scope=SCOPE, settings=settings) as manager:
        await put(manager, ScopePolicy(max_bytes=1000))
        registration = await manager.fetch("a", ["https://h/1", "https://h/2"])
        keys = FetchKeys(SCOPE, registration.uid)
        first = LaneHold(manager.connection, settings, keys)
        second = LaneHold(manager.connection, settings, keys)

        opened = await first.take("job", 1)

        assert isinstance(opened, Opened)
        assert opened.policy.max_bytes == 1000
        assert await second.take("job-2", 1) is Refusal.FULL
        assert await manager.connection.ask("LLEN", "rq:queue:bgfetch") == 1


def call(
    capsys: pytest.CaptureFixture[str], redis_url: str, *arguments: str
) -> tuple[int, str, str]:
    capsys.readouterr()
    words = [*arguments, "--redis-url", redis_url]
    code = run(command_line(), ["never", "started"], words)
    ended = capsys.readouterr()
    return code, ended.out, ended.err


def test_the_command_line_sets_and_shows_the_rules_of_a_scope(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [
        "--https-only",
        *("--allow-origin", "*.example.com", "--allow-origin", "https://CDN.example"),
        *("--deny-origin", "bad.example.com", "--max-bytes", "10MB"),
    ]

    code, _, _ = call(capsys, redis_url, "scope", "set", "podcasts", *rules)
    _, shown, _ = call(capsys, redis_url, "scope", "show", "podcasts", "--json")
    _, text, _ = call(capsys, redis_url, "scope", "show", "podcasts")
    _, other, _ = call(capsys, redis_url, "scope", "show", "other")

    assert code == 0
    assert json.loads(shown) == {
        "scope": "podcasts",
        "permission": "granted",
        "requireActiveWorker": False,
        "httpsOnly": True,
        "allow": ["*.example.com", "https://cdn.example"],
        "deny": ["bad.example.com"],
        "maxBytes": 10_000_000,
        "quota": 0,
        "window": "",
        "used": 0,
    }
    assert "allow:      *.example.com, https://cdn.example" in text
    assert "deny:       none" in other

    call(capsys, redis_url, "scope", "set", "podcasts")
    _, lifted, _ = call(capsys, redis_url, "scope", "show", "podcasts")
    assert "https only: no" in lifted
    assert "max bytes:  no limit" in lifted


def test_a_pattern_that_cannot_be_used_changes_nothing(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(
        capsys, redis_url, "scope", "set", "s", "--deny-origin", "https://h/path"
    )

    assert (code, out) == (2, "")
    assert "'https://h/path' is no pattern of origins: write https://" in err
    assert err.count("\n") == 1


async def test_a_policy_that_this_release_cannot_read_stops_new_fetches(
    manager: BackgroundFetchManager,
) -> None:
    """Never taken for no rules at all."""
    await manager.connection.ask("HSET", f"bgfetch:{SCOPE}", "policy", "nonsense")

    with pytest.raises(InvalidMessage):
        await manager.fetch("a", "https://cdn.example/")
    with pytest.raises(InvalidMessage):
        await read_policy(manager.connection, SCOPE)
