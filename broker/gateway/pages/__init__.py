"""The dashboard: pages for people, rendered here, complete without JavaScript."""

from __future__ import annotations

from fastapi import FastAPI

from broker.gateway.pages import acts, bulk, fetch, fetches, fleet, letters, subscribers
from broker.gateway.pages.rendering import Assets
from broker.gateway.pages.trouble import Lookout


def include_pages(app: FastAPI) -> None:
    """Add every page, and the files that they need."""
    app.state.lookout = Lookout()
    app.mount("/static", Assets())
    for each in (fetches, fetch, acts, bulk, subscribers, letters, fleet):
        app.include_router(each.router, include_in_schema=False)
