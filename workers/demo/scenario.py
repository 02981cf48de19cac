"""The story: what a newcomer sees, step by step, and why each step is safe."""

from __future__ import annotations

import time

from broker.quantities import shown_size
from workers.demo import checks, opening
from workers.demo.catalogue import RETRY_AFTER, Plan
from workers.demo.rows import spaced
from workers.demo.screen import BAD, BUSY, GOOD
from workers.demo.stage import Stage

ENOUGH = 0.4
"""Share of the large file that is checkpointed before its worker is killed."""


async def tell(stage: Stage) -> None:
    """Tell the story to its end.

    Raises:
        Stuck: it does not go on.
    """
    catalogue = stage.catalogue
    async with stage.lookout.looking():
        await opening.introduce_the_origin(stage)
        await opening.be_refused(stage)
        await opening.register(stage, catalogue.season, catalogue.bonus)
        await opening.start_processes(stage)
        await opening.show_the_dashboard(stage)
        await _see_the_season(stage)
        await _see_the_bonus(stage)
        await opening.register(stage, catalogue.episode, catalogue.stream)
        await _click(stage, catalogue.stream, "which is under way")
        await _abort(stage)
        await _kill(stage)
        await _see_it_resumed(stage)
        await _click(stage, catalogue.episode, "which has arrived")
        await _release(stage)


async def _see_the_season(stage: Stage) -> None:
    catalogue, asked_for = stage.catalogue, stage.lookout.asked_for
    broken, busy = catalogue.broken, catalogue.busy
    await stage.lookout.until(
        lambda: len(asked_for(busy.path)) > 1, f"{busy.name} is asked for again"
    )
    first, second, *_ = asked_for(busy.path)
    await stage.say(
        "waited",
        f"{busy.name}: 503 with Retry-After: {RETRY_AFTER}, asked again "
        f"{second.at - first.at:.1f} s later.",
        "The origin's wish comes before our own back-off.",
        GOOD,
    )
    await stage.lookout.until(
        lambda: len(asked_for(broken.path)) > len(broken.cut_after),
        f"{broken.name} goes on after its last cut",
    )
    starts = [f"{each.start:,}" for each in asked_for(broken.path)[1:]]
    await stage.say(
        "resumed",
        f"{broken.name}: its connection broke {len(starts)} times, and it went on at "
        f"bytes {' and '.join(starts)}.",
        "Range asks for the rest, If-Range names the version: a changed file would "
        "begin again, never become a mixture.",
        GOOD,
    )
    await stage.until_ended(catalogue.season)


async def _see_the_bonus(stage: Stage) -> None:
    bonus, missing = stage.catalogue.bonus, stage.catalogue.missing
    await stage.until_ended(bonus)
    state = stage.watched(bonus).registration
    await stage.say(
        "failed",
        f"{bonus.id}: {missing.name} is a 404, so the group ends as {state.result}, "
        f"{state.failure_reason}.",
        "What did arrive is not lost: the service worker kept "
        f"{stage.catalogue.interview.name}.",
        BAD,
    )


async def _click(stage: Stage, plan: Plan, when: str) -> None:
    watched = stage.watched(plan)
    await stage.lookout.until(
        lambda: watched.registration.downloaded > 0, f"{plan.id} has begun"
    )
    await stage.say("click", f"A person clicks on {plan.id}, {when}.")
    clicked = await watched.registration.click()
    key = (watched.registration.uid, clicked.event)
    await stage.lookout.until(
        lambda: key in stage.windows and watched.handled("click"),
        f"the click on {plan.id} opens a window",
    )
    why = "As in a browser, only a click may open a window, and only one."
    await stage.say(
        "window",
        f"The link {stage.windows[key]} is shown to that person.",
        "" if stage.facts.windows else why,
        BUSY,
    )
    stage.facts.windows[plan.id] = stage.windows[key]


async def _abort(stage: Stage) -> None:
    plan = stage.catalogue.stream
    registration = stage.watched(plan).registration
    stage.facts.aborted = await registration.abort()
    await stage.say(
        "abort",
        f"{plan.id}: abort() returned {stage.facts.aborted} after "
        f"{shown_size(registration.downloaded)}.",
        "One script decides it: nothing can make this fetch a success any more.",
    )
    await stage.until_ended(plan)


async def _kill(stage: Stage) -> None:
    plan, facts = stage.catalogue.episode, stage.facts
    watched = stage.watched(plan)
    await stage.lookout.until(
        lambda: (
            watched.held
            and watched.worker in stage.crew.members
            and watched.checkpoint >= ENOUGH * plan.total
        ),
        f"{ENOUGH:.0%} of {plan.id} are on disk",
    )
    share = 100 * watched.registration.downloaded // plan.total
    facts.killed, facts.killed_at = watched.worker, time.monotonic()
    await stage.crew.members[facts.killed].kill()
    await stage.say(
        "kill",
        f"{spaced(facts.killed)} is killed with SIGKILL, at {share} % of {plan.id}.",
        f"{watched.checkpoint:,} bytes are on disk, and Redis knows it. Nobody has to "
        "notice the death: a lease that is not renewed ends.",
        BAD,
    )


async def _see_it_resumed(stage: Stage) -> None:
    plan, file = stage.catalogue.episode, stage.catalogue.large
    watched, facts = stage.watched(plan), stage.facts
    await stage.lookout.until(
        lambda: (
            watched.worker != facts.killed
            and stage.lookout.asked_for(file.path)[-1].at > facts.killed_at
        ),
        f"another worker goes on with {plan.id}",
    )
    facts.successor = watched.worker
    again = stage.lookout.asked_for(file.path)[-1]
    lease = stage.manager.settings.lease.total_seconds()
    await stage.say(
        "resumed",
        f"Its lease of {lease:g} s ended; {again.at - facts.killed_at:.1f} s after the "
        f"kill {spaced(facts.successor)} goes on at byte {again.start:,}, with "
        "If-Range.",
        "Had the other one only slept, its late writes would be refused: each carries "
        "the fence of its lease.",
        GOOD,
    )
    await stage.until_ended(plan)


async def _release(stage: Stage) -> None:
    """Read everything as a producer does, then give it up."""
    fetches = stage.lookout.fetches
    for id, watched in fetches.items():
        stage.copies[id] = await checks.read(watched)
        await watched.registration.release()
    await stage.lookout.until(
        lambda: (
            not any(each.registration.records_available for each in fetches.values())
        ),
        "the records are released",
    )
    await stage.say(
        "release",
        "The producer has read every file and ends its hold: the records are released.",
        "They stay until every subscriber has acknowledged and every hold has ended.",
    )
