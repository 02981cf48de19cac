"""The service worker of the demo: what an application writes, and all of it.

The demo runs it as ``bgfetch subscribe workers.demo.podcasts:sw``. It keeps episodes in
``library/<fetch id>/`` of the directory that it is started in.
"""

import asyncio
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from broker import BackgroundFetchRegistration, RecordResult
from workers import BackgroundFetchEvent, BackgroundFetchUpdateUIEvent, ServiceWorker

sw = ServiceWorker("podcasts-demo", name="podcasts")


@sw.on("backgroundfetchsuccess")
async def succeeded(event: BackgroundFetchUpdateUIEvent) -> None:
    """Keep every file; if this process dies before the end, the event comes again."""
    await keep(event.registration)
    await event.update_ui(title=f"{event.registration.title} is ready to play")


@sw.on("backgroundfetchfail")
async def failed(event: BackgroundFetchUpdateUIEvent) -> None:
    """Keep what did arrive, and say that it is not all."""
    await keep(event.registration)
    await event.update_ui(title=f"{event.registration.title} is incomplete")


@sw.on("backgroundfetchabort")
async def aborted(event: BackgroundFetchEvent) -> None:
    """Nothing is kept: somebody no longer wants it."""


@sw.on("backgroundfetchclick")
async def clicked(event: BackgroundFetchEvent) -> None:
    """Show what has arrived, or how far it is."""
    if event.registration.result == "success":
        await sw.clients.open_window("/latest-podcasts")
    else:
        await sw.clients.open_window("/download-progress")


async def keep(registration: BackgroundFetchRegistration) -> None:
    """Save the good responses; a repetition replaces each file by the same one."""
    shelf = Path("library", registration.id)
    await asyncio.to_thread(shelf.mkdir, parents=True, exist_ok=True)
    for record in await registration.match_all():
        await record.refresh()
        if record.result is RecordResult.SUCCESS:
            name = PurePosixPath(urlsplit(record.request.url).path).name
            response = await record.response_ready
            await response.save(shelf / name)
