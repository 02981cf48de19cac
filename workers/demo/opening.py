"""How the story opens: an origin, a refusal, fetches, then somebody to do the work."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec

from broker.manager import connect
from broker.quantities import shown_size
from schemas.addresses import AddressPolicy
from schemas.errors import ForbiddenAddress
from workers.demo.catalogue import Plan
from workers.demo.children import Member
from workers.demo.podcasts import sw
from workers.demo.rows import spaced
from workers.demo.stage import Stage

HOLD = timedelta(minutes=5)
"""How long the demo, as the producer, keeps records for its checks."""
WORKERS = ("worker-1", "worker-2")
SUBSCRIBER = "subscriber"
GATEWAY = "gateway"


async def introduce_the_origin(stage: Stage) -> None:
    """Say where the files come from, and in what manner."""
    place, size = stage.origin.url("/"), shown_size(stage.catalogue.size)
    await stage.say(
        "origin",
        f"{place} serves {size}, and badly: slow, with broken connections, a 503 and "
        "a 404.",
    )


async def be_refused(stage: Stage) -> None:
    """Without permission, nobody is sent to an address that is not public."""
    default = AddressPolicy()
    strict = stage.manager.settings.model_copy(update={"allow_networks": default})
    url = stage.origin.url("/")
    async with connect(scope=sw.scope, settings=strict) as careful:
        try:
            await careful.fetch("refused", url)
        except ForbiddenAddress as error:
            stage.facts.refused = type(error).__name__
            await stage.say(
                "refused",
                f"fetch({url!r}) raised {error.spec_name}: loopback.",
                "Private addresses are refused by default, at fetch() and again when "
                "dialled. From here on loopback is allowed, and nothing else.",
            )


async def register(stage: Stage, *plans: Plan) -> None:
    """Start fetches, as a producer does."""
    for plan in plans:
        registration = await stage.manager.fetch(
            plan.id,
            [file.path for file in plan.files],
            title=plan.title,
            download_total=plan.total,
            hold=HOLD,
        )
        stage.lookout.watch(plan, registration)
    what = " and ".join(_described(plan) for plan in plans) + " are registered"
    if stage.crew.members:
        await stage.say("fetch", f"{what}.")
        return
    await stage.say(
        "fetch",
        f"{what}, though no worker runs yet.",
        "Once fetch() returns, a fetch is in Redis whole, the wish for work included: "
        "its caller may go away.",
    )


async def start_processes(stage: Stage) -> None:
    """Start two workers, and the subscriber with the example service worker."""
    crew, lease = stage.crew, stage.manager.settings.lease.total_seconds()
    for name in WORKERS:
        await crew.start(name, "worker", "--name", f"{sw.scope}-{name}")
    target = ("workers.demo.podcasts:sw", "--app-dir", crew.root)
    await crew.start(SUBSCRIBER, "subscribe", *target)
    named = [f"{spaced(each.name)} (pid {each.pid})" for each in crew.members.values()]
    await stage.say(
        "start",
        f"{', '.join(named[:-1])} and {named[-1]} start.",
        "RQ hands each fetch to a worker, which holds it by a lease of "
        f"{lease:g} s and renews that while it lives.",
    )


async def show_the_dashboard(stage: Stage) -> None:
    """Start the gateway, if its extra is installed and a person is there to look."""
    if find_spec("fastapi") is None or not stage.pace.reading:
        return
    gateway = await stage.crew.start(
        GATEWAY, "serve", "--port", "0", "--log-format", "json"
    )
    await stage.lookout.until(lambda: bool(_address(gateway)), "the gateway listens")
    await stage.say(
        "look",
        f"{_address(gateway)}/ shows all of this in a browser, while it lasts.",
    )


def _address(gateway: Member) -> str:
    for entry in gateway.log():
        if entry.get("event") == "gateway_starts":
            return str(entry["address"])
    return ""


def _described(plan: Plan) -> str:
    count = len(plan.files)
    size = f", {shown_size(plan.total)}" if plan.total else ""
    return f"{plan.id} ({count} file{'s' if count > 1 else ''}{size})"
