"""The verbs of producers: what they print, refuse and return, on a real Redis."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from broker.cli.app import command_line, run
from broker.cli.requests import Words, fingerprint
from broker.cli.server_checks import Verdict, append_only
from broker.settings import Settings

URL = "https://cdn.example/ep-5.mp3"


@dataclass(frozen=True, slots=True)
class Ended:
    """What one command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stdout."""
        return self.out.splitlines()


Bgfetch = Callable[..., Ended]


@pytest.fixture
def bgfetch(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bgfetch:
    """Return a function that runs one command in this process."""
    monkeypatch.setenv("BGFETCH_REDIS_URL", redis_url)
    monkeypatch.setenv("BGFETCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "NO_COLOR", "REDIS_URL", "BGFETCH_ALLOW_NETWORKS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        code = run(command_line(), ["never", "started"], arguments)
        return Ended(code, *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("get", "ep-5"),
        ("watch", "ep-5"),
        ("abort", "ep-5"),
        ("click", "ep-5"),
        ("fetch", URL),
        ("fetch", URL, "--wait"),
        ("doctor",),
    ],
)
def test_without_redis_a_command_ends_with_4_and_one_line(
    arguments: tuple[str, ...], bgfetch: Bgfetch, tmp_path: Path
) -> None:
    nowhere = f"unix://{tmp_path}/no.sock"

    ended = bgfetch(*arguments, "--redis-url", nowhere)

    assert ended.code == 4
    assert ended.err.count("\n") == 1
    assert f"no Redis at {nowhere}" in ended.err
    assert "BGFETCH_REDIS_URL" in ended.err


@pytest.mark.parametrize("arguments", [("list",), ("fetch", URL)])
def test_where_no_redis_is_configured_nor_running_the_error_has_the_fix(
    arguments: tuple[str, ...], bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BGFETCH_REDIS_URL")

    ended = bgfetch(*arguments)

    assert (ended.code, ended.out) == (4, "")
    assert ended.err.count("\n") == 1
    assert "set BGFETCH_REDIS_URL, or run `bgfetch up`" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "at least one request must be given"),
        (("http://[",), "cannot be parsed"),
        (("cdn.example/ep-5.mp3",), "must be absolute"),
        (("file:///etc/passwd",), "its scheme is 'file'; use http or https"),
        (("https://user:secret@h/",), "carries a user name or password"),
        (("https://h:25/",), "port 25 is blocked"),
        (("http://127.0.0.1/",), "loopback (127.0.0.0/8)"),
        (("http://10.0.0.1/",), "may not be reached"),
        (("http://169.254.169.254/",), "may not be reached"),
        (("http://localhost/",), "may not be reached"),
        ((URL, "http://[::1]/"), "may not be reached"),
        ((URL, "--id", ""), "a fetch id must be a non-empty string"),
        ((URL, "--header", "nonsense"), "a header is written 'Name: value'"),
        ((URL, "--header", "Host: other"), "set by the worker alone"),
        (
            (URL, "--priority", "urgent"),
            "priority must be one of 'high', 'auto', 'low'",
        ),
        ((URL, "--download-total", "99999999TB"), "download_total must be in"),
    ],
)
@pytest.mark.parametrize("wait", [(), ("--wait",)])
def test_what_fetch_refuses_is_a_type_error_and_nothing_is_stored(
    arguments: tuple[str, ...],
    told: str,
    wait: tuple[str, ...],
    bgfetch: Bgfetch,
    redis_url: str,
) -> None:
    """BF-FETCH-02, -03, -07, BF-SEC-07, -08; the private address by default."""
    ended = bgfetch("fetch", *arguments, *wait)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("bgfetch: TypeError: ")
    assert told in ended.err
    assert "secret" not in ended.err
    assert ended.err.count("\n") == 1
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("bgfetch:*") == []


def test_an_id_in_use_is_a_type_error_and_the_first_fetch_stays(
    bgfetch: Bgfetch,
) -> None:
    """BF-FETCH-13."""
    bgfetch("fetch", URL, "--id", "ep-5", "--title", "first")

    ended = bgfetch("fetch", URL, "--id", "ep-5", "--title", "second")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("bgfetch: TypeError: ")
    assert "'ep-5'" in ended.err
    assert [row["title"] for row in json.loads(bgfetch("list", "--json").out)] == [
        "first"
    ]


def test_a_network_that_is_allowed_on_the_command_line_is_allowed(
    bgfetch: Bgfetch,
) -> None:
    refused = bgfetch("fetch", "http://10.1.2.3/", "--allow-network", "10.2.0.0/16")
    allowed = bgfetch(
        "fetch",
        "http://10.1.2.3/",
        *("--allow-network", "10.1.0.0/16"),
        *("--allow-network", "loopback"),
    )

    assert (refused.code, allowed.code) == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (("list", "--scope", "a b"), {}, "'a b' is no scope name"),
        (("list",), {"BGFETCH_SCOPE": "../x"}, "'../x' is no scope name"),
        (("list",), {"BGFETCH_LEASE": "soon"}, "BGFETCH_LEASE='soon'"),
        (("list", "--redis-url", "ftp://h"), {}, "is no Redis URL"),
        (
            ("fetch", URL, "--allow-network", "loopbck"),
            {},
            "'loopbck' cannot be used",
        ),
    ],
)
def test_a_scope_or_setting_that_cannot_be_used_ends_with_3(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    told: str,
    bgfetch: Bgfetch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    ended = bgfetch(*arguments)

    assert (ended.code, ended.out) == (3, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("list", "--nonsense"), "No such option: --nonsense"),
        (("get",), "ID"),
        (("fetch", URL, "--download-total", "much"), "'much' is no size"),
        (("fetch", URL, "--hold", "1w"), "'1w' is no duration"),
        (("list", "--limit", "0"), "'--limit'"),
    ],
)
def test_wrong_usage_ends_with_2_and_points_to_the_help(
    arguments: tuple[str, ...], told: str, bgfetch: Bgfetch
) -> None:
    ended = bgfetch(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "--help" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fetch", "file:///x", "--json"), ("TypeError", "InvalidURL", 2)),
        (("list", "--json", "--scope", "a b"), ("AbortError", "ConfigError", 3)),
        (("list", "--json", "--nonsense"), ("TypeError", "NoSuchOption", 2)),
    ],
)
def test_with_json_an_error_is_one_object_on_stderr(
    arguments: tuple[str, ...], expected: tuple[str, str, int], bgfetch: Bgfetch
) -> None:
    ended = bgfetch(*arguments)

    error = json.loads(ended.err)
    assert ended.out == ""
    assert (error["error"], error["kind"], error["exitCode"]) == expected
    assert ended.code == error["exitCode"]
    assert error["message"]


@pytest.mark.parametrize("arguments", [("--debug", "get", ""), ("get", "", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(
    arguments: tuple[str, ...], bgfetch: Bgfetch
) -> None:
    plain, debug = bgfetch("get", ""), bgfetch(*arguments)

    assert plain.code == debug.code == 2
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert debug.err.endswith(plain.err)


def test_fetch_prints_an_id_with_the_name_of_the_file(bgfetch: Bgfetch) -> None:
    first, second = bgfetch("fetch", URL), bgfetch("fetch", URL)

    assert first.code == second.code == 0
    assert first.out.startswith("ep-5.mp3-")
    assert first.out != second.out
    assert first.err == (
        "bgfetch: no worker is running: start one with `bgfetch worker`\n"
    )
    assert [line.split("\t")[0] for line in bgfetch("list").lines] == [
        first.out.strip(),
        second.out.strip(),
    ]


def test_fetch_takes_urls_from_stdin_and_all_its_options(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{URL}\n\n  {URL}?b  \n"))

    ended = bgfetch(
        *("fetch", "https://h/first", "-", "--id", "ep", "--title", "Episode"),
        *("--icon", "/a.png", "--icon", "/b.png", "--download-total", "60MiB"),
        *("--header", "Authorization: Bearer x", "--hold", "2h", "--priority", "high"),
        "--json",
    )

    state = json.loads(ended.out)
    assert state["records"] == 3
    assert (state["title"], state["downloadTotal"]) == ("Episode", 60 * 2**20)
    assert [icon["src"] for icon in state["icons"]] == ["/a.png", "/b.png"]
    assert state["createdAt"].endswith("Z")
    assert state["settledAt"] is None
    records = json.loads(bgfetch("get", "ep", "--json").out)["recordList"]
    assert [record["url"] for record in records] == ["https://h/first", URL, URL + "?b"]


def test_fetch_sends_a_text_or_a_file_with_each_url(
    bgfetch: Bgfetch, tmp_path: Path
) -> None:
    """BF-FETCH-18: a POST, unless another method is asked for."""
    file = tmp_path / "body"
    file.write_bytes(bytes(100_000))

    text = bgfetch("fetch", URL, URL + "?b", "--data", "é", "--id", "text", "--json")
    sent = ("--data", f"@{file}", "-X", "put", "-H", "Content-Type: a/b")
    large = bgfetch("fetch", URL, *sent, "--id", "large", "--json")

    assert json.loads(text.out)["uploadTotal"] == 4
    assert json.loads(large.out)["uploadTotal"] == 100_000
    shown = {
        id: {
            record["method"]
            for record in json.loads(bgfetch("get", id, "--json").out)["recordList"]
        }
        for id in ("text", "large")
    }
    assert shown == {"text": {"POST"}, "large": {"PUT"}}
    assert len(list((tmp_path / "store" / "blobs").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "@missing"), "--data '@missing': no file 'missing'"),
        (("--data", "x", "--method", "GET"), "a GET request has no body"),
        (("--method", "TRACE"), "'TRACE' is forbidden"),
        (("--method", "a b"), "'a b' is no HTTP method"),
    ],
)
def test_a_body_or_method_that_cannot_be_sent_is_told_so(
    arguments: tuple[str, ...], told: str, bgfetch: Bgfetch
) -> None:
    ended = bgfetch("fetch", URL, *arguments)

    assert ended.code == 2
    assert told in ended.err
    assert bgfetch("list").lines == []


def test_the_same_wish_has_the_same_id_until_its_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"first")
    words = Words(None, (), f"@{file}")

    first, again = (fingerprint(words.request(URL)) for _ in range(2))
    file.write_bytes(b"another")

    assert first == again != fingerprint(words.request(URL))
    assert first != fingerprint(Words(None, (), "text").request(URL))


def test_a_base_url_that_somebody_chose_resolves_relative_urls(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGFETCH_BASE_URL", "https://podcasts.example/feed/")

    bgfetch("fetch", "ep-5.mp3", "--id", "ep-5")

    [record] = json.loads(bgfetch("get", "ep-5", "--json").out)["recordList"]
    assert record["url"] == "https://podcasts.example/feed/ep-5.mp3"


def test_scopes_do_not_see_each_other(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    bgfetch("fetch", URL, "--id", "ep-5", "--scope", "podcasts")

    there = bgfetch("list", "-s", "podcasts").lines
    monkeypatch.setenv("BGFETCH_SCOPE", "podcasts")
    by_environment = bgfetch("list").lines
    monkeypatch.delenv("BGFETCH_SCOPE")

    assert len(there) == 1
    assert by_environment == there
    assert bgfetch("list").lines == []


def test_list_has_the_active_fetches_and_with_all_the_ended_ones(
    bgfetch: Bgfetch,
) -> None:
    """BF-DISP-03, BF-DISP-10."""
    for id in ("first", "second", "third"):
        bgfetch("fetch", URL, "--id", id)
    bgfetch("abort", "second")

    active = [row["id"] for row in json.loads(bgfetch("list", "--json").out)]
    ended = [line.split("\t")[:2] for line in bgfetch("list", "--all").lines]
    newest = [
        row["id"]
        for row in json.loads(bgfetch("list", "-a", "--limit", "2", "--json").out)
    ]

    assert active == ["first", "third"]
    assert ended == [["third", "active"], ["second", "aborted"], ["first", "active"]]
    assert newest == ["third", "second"]


def test_a_title_cannot_break_a_line_or_command_a_terminal(bgfetch: Bgfetch) -> None:
    """BF-DISP-04."""
    bgfetch("fetch", URL, "--id", "a\tb\n\x1b[2J", "--title", "\x1b]0;owned\x07")

    [line] = bgfetch("list").lines

    assert line.split("\t")[0] == "a?b??[2J"
    assert "\x1b" not in line


def test_a_terminal_gets_a_table_and_colours_only_where_they_are_wanted(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    bgfetch("fetch", URL, "--id", "ep-5", "--title", "[bold]x[/bold]")
    monkeypatch.setenv("FORCE_COLOR", "1")

    table = bgfetch("list").out
    monkeypatch.setenv("NO_COLOR", "1")
    plain = bgfetch("list").out

    assert "state" in table
    assert "[bold]x[/bold]" in table
    assert "s ago" in table
    assert "\x1b[3" not in table + plain
    assert "\x1b[" not in plain.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_get_shows_a_fetch_and_its_records(bgfetch: Bgfetch) -> None:
    bgfetch("fetch", URL, URL + "?b", "--id", "ep-5", "--title", "Episode 5")

    plain = bgfetch("get", "ep-5")
    state = json.loads(bgfetch("get", "ep-5", "--json").out)

    assert plain.code == 0
    assert "title:       Episode 5" in plain.lines
    assert [line for line in plain.lines if line.startswith("open\t")] == [
        f"open\t\t0 bytes\t{URL}\t",
        f"open\t\t0 bytes\t{URL}?b\t",
    ]
    assert state["records"] == 2
    assert state["recordList"][0] == {
        "url": URL,
        "method": "GET",
        "result": "",
        "failureReason": "",
        "status": 0,
        "downloaded": 0,
        "length": 0,
        "attempts": 0,
        "waitsFor": "",
    }


@pytest.mark.parametrize("verb", ["get", "watch", "abort", "click"])
def test_an_unknown_id_is_the_answer_no(verb: str, bgfetch: Bgfetch) -> None:
    ended = bgfetch(verb, "nothing")

    assert (ended.code, ended.out) == (1, "")
    assert "'nothing'" in ended.err
    assert ended.err.count("\n") == 1


def test_get_and_list_tell_that_a_fetch_waits_for_a_place(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGFETCH_SCOPE_LANES", "1")
    bgfetch("fetch", URL, "--id", "first")
    bgfetch("fetch", URL, "--id", "second")

    rows = json.loads(bgfetch("list", "--json").out)
    reason = json.loads(bgfetch("get", "second", "--json").out)["waiting"]

    told = "waits for a place: 'default' has 1 of 1 lanes of priority 'auto'"
    assert [row["waiting"] for row in rows] == ["", told]
    assert reason == told
    assert f"active, {told}" in bgfetch("get", "second").out


def test_abort_answers_yes_once(bgfetch: Bgfetch) -> None:
    """BF-DISP-07, BF-ABORT-04."""
    bgfetch("fetch", URL, "--id", "ep-5")

    first, again = bgfetch("abort", "ep-5"), bgfetch("abort", "ep-5", "--json")

    assert (first.code, again.code) == (0, 1)
    assert json.loads(again.out) == {"id": "ep-5", "aborted": False}


def test_watch_ends_with_the_result_and_its_code(bgfetch: Bgfetch) -> None:
    bgfetch("fetch", URL, "--id", "ep-5")
    bgfetch("abort", "ep-5")

    ended = bgfetch("watch", "ep-5")
    states = [json.loads(line) for line in bgfetch("watch", "ep-5", "--json").lines]

    assert (ended.code, ended.out) == (5, "aborted\n")
    assert states[-1]["failureReason"] == "aborted"


@pytest.mark.parametrize("arguments", [("watch", "ep-5"), ("watch", "ep-5", "--json")])
def test_watch_gives_up_waiting_with_124(
    arguments: tuple[str, ...], bgfetch: Bgfetch
) -> None:
    bgfetch("fetch", URL, "--id", "ep-5")

    ended = bgfetch(*arguments, "--wait-timeout", "50ms")

    assert ended.code == 124
    assert "goes on" in ended.err


def test_click_publishes_although_nobody_opens_a_window(bgfetch: Bgfetch) -> None:
    """BF-CLICK-01."""
    bgfetch("fetch", URL, "--id", "ep-5")

    first = bgfetch("click", "ep-5", "--wait-window", "0")
    second = bgfetch("click", "ep-5", "--wait-window", "10ms", "--json")

    assert (first.code, first.out) == (0, "")
    assert "backgroundfetchclick.1 is published" in first.err
    told = json.loads(second.out)
    assert (told["event"], told["url"]) == ("backgroundfetchclick.2", None)


def test_the_version_names_what_the_program_stands_on(bgfetch: Bgfetch) -> None:
    ended = bgfetch("--version")

    assert ended.code == 0
    for part in ("bgfetch ", "Python 3.", "redis-py ", "RQ 3"):
        assert part in ended.out


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_help_tells_the_exit_codes(
    arguments: tuple[str, ...], bgfetch: Bgfetch
) -> None:
    ended = bgfetch(*arguments)

    assert (ended.code, ended.err) == (0, "")
    assert "124  --wait-timeout is over" in ended.out


def test_doctor_tells_every_setting_and_where_it_is_from(
    bgfetch: Bgfetch, monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("BGFETCH_LEASE", "7")
    monkeypatch.setenv("BGFETCH_ALLOW_NETWORKS", "10.0.0.0/8")

    ended = bgfetch("doctor", "--json", "--store", str(tmp_path / "other"))

    told = json.loads(ended.out)
    rows = {row["name"]: (row["value"], row["source"]) for row in told["settings"]}
    assert ended.code == 0
    assert set(rows) == {f"BGFETCH_{name.upper()}" for name in Settings.model_fields}
    assert rows["BGFETCH_LEASE"] == (7.0, "environment")
    assert rows["BGFETCH_REDIS_URL"] == (redis_url, "environment")
    assert rows["BGFETCH_STORE"] == (str(tmp_path / "other"), "option")
    assert rows["BGFETCH_ALLOW_NETWORKS"] == (["10.0.0.0/8"], "environment")
    assert rows["BGFETCH_CONCURRENCY"] == (16, "default")
    checks = {check["name"]: check["verdict"] for check in told["checks"]}
    assert checks == {
        "packages": "ok",
        "store": "ok",
        "disk": "ok",
        "redis": "ok",
        "eviction": "ok",
        "aof": "ok",
        "clock": "ok",
        "queues": "ok",
        "workers": "warn",
    }


def test_doctor_masks_the_password_of_redis(bgfetch: Bgfetch) -> None:
    ended = bgfetch("doctor", "--redis-url", "redis://:s3cr3t@127.0.0.1:1/0")

    assert ended.code == 4
    assert "s3cr3t" not in ended.out + ended.err
    assert "***@127.0.0.1:1" in ended.out


def test_doctor_warns_of_a_redis_that_forgets(bgfetch: Bgfetch, redis_url: str) -> None:
    """Faults row 78: one that evicts keys drops fetches silently."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            ended = bgfetch("doctor")
        finally:
            client.config_set("maxmemory-policy", "noeviction")

    found = {line.split("\t")[1]: line for line in ended.lines if "\t" in line}
    assert ended.code == 0
    assert "set maxmemory-policy noeviction" in found["eviction"]
    assert append_only({"aof_enabled": 1}).verdict is Verdict.OK
    assert append_only({"aof_enabled": 0}).verdict is Verdict.WARN


def test_doctor_finds_a_store_that_cannot_be_written(
    bgfetch: Bgfetch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    ended = bgfetch("doctor", "--store", str(tmp_path / "file" / "store"))

    assert ended.code == 1
    assert "BGFETCH_STORE" in ended.err


def test_doctor_warns_of_folders_that_our_packages_hide(
    bgfetch: Bgfetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "workers").mkdir()
    monkeypatch.chdir(tmp_path)

    [told] = [line for line in bgfetch("doctor").lines if "\tpackages\t" in line]

    assert told.startswith("warn")
    assert str(tmp_path / "workers") in told


def test_doctor_names_secrets_that_may_go_nowhere(
    bgfetch: Bgfetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("github", "github.origins", "gitlab"):
        (tmp_path / name).write_text("hunter2")
    monkeypatch.setenv("BGFETCH_SECRETS_DIR", str(tmp_path))

    ended = bgfetch("doctor")

    assert "gitlab may go nowhere: list origins in NAME.origins" in ended.out
    assert "hunter2" not in ended.out
