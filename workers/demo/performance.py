"""One performance of the demo: set up, tell, check, take down, conclude."""

from __future__ import annotations

import time
from pathlib import Path

from schemas import siblings
from schemas.errors import BackgroundFetchError
from workers.demo import checks
from workers.demo.checks import Check
from workers.demo.database import Database, database
from workers.demo.directory import directory
from workers.demo.lookout import Stuck
from workers.demo.opening import SUBSCRIBER
from workers.demo.podcasts import sw
from workers.demo.rows import row
from workers.demo.scenario import tell
from workers.demo.screen import BAD, GOOD, QUIET, Screen
from workers.demo.stage import Pace, Stage, staged

TITLE = "Background Fetch for servers: its main job, on this machine alone."
LAST_WORDS = 8
"""Lines of each process's log that are shown when a check failed."""


async def perform(
    screen: Screen, pace: Pace, redis_url: str | None, *, keep: bool
) -> int:
    """Give one performance; return 0, or 1 if something was not as it should be."""
    began = time.monotonic()
    with directory(keep=keep) as place:
        async with (
            database(redis_url, place / "server", sw.scope) as found,
            staged(found.url, place, screen, pace) as stage,
        ):
            results = await _play(stage, found, place)
            failed = [check for check in results if not check.passed]
            words = stage.crew.last_words(LAST_WORDS) if failed else []
    took = time.monotonic() - began
    if failed:
        for check in failed:
            screen.note(f"FAILED: {check.what}", f"   found: {check.found}", style=BAD)
        screen.note("", "The last words of each process:", *words, style=QUIET)
        screen.note("", f"{len(failed)} of {len(results)} checks failed.", style=BAD)
    else:
        screen.note(f"All {len(results)} checks passed in {took:.1f} s.", style=GOOD)
    screen.note(
        "Every process has ended; "
        + (f"files and logs are in {place}." if keep else "no file is left.")
    )
    if not failed:
        screen.note(*_what_next())
    return 1 if failed else 0


async def _play(stage: Stage, found: Database, place: Path) -> list[Check]:
    try:
        stage.screen.note(TITLE, "")
        with stage.screen:
            await stage.say("server", found.description, found.assurance)
            await tell(stage)
    except (Stuck, BackgroundFetchError) as error:
        return [Check("the story goes to its end", False, error)]
    fetches = stage.lookout.fetches
    stage.screen.close(
        [row(watched, stage.copies[id]) for id, watched in fetches.items()]
    )
    watched = list(fetches.values())
    log = stage.crew.members[SUBSCRIBER].log()
    return [
        *checks.check_facts(stage.facts),
        *checks.check_exchanges(stage.lookout, stage.catalogue, stage.facts),
        *(
            check
            for each in watched
            for check in checks.check_fetch(each, stage.copies[each.plan.id])
        ),
        *checks.check_library(place / "library", watched),
        *checks.check_log(log, watched),
    ]


def _what_next() -> tuple[str, ...]:
    checkout = (Path(siblings.__file__).parent.parent / "run.py").exists()
    bgfetch, help = ("python3 run.py", "help") if checkout else ("bgfetch", "--help")
    commands = {
        "up workers.demo.podcasts:sw": "the same, to stay",
        f"fetch -s {sw.scope} --id x URL": "see it in library/x",
        f"click -s {sw.scope} x": "open its window",
        help: "all commands",
    }
    width = max(map(len, commands))
    return (
        "",
        "Try next, in two terminals:",
        *(f"  {bgfetch} {each:<{width}}   {what}" for each, what in commands.items()),
    )
