"""What happens, as it happens: server-sent events for any number of readers."""

from broker.gateway.live.feed import Feed
from broker.gateway.live.news import LIFECYCLE, TYPES, Wanted
from broker.gateway.live.reader import Reader
from broker.gateway.live.telling import tell

__all__ = ["LIFECYCLE", "TYPES", "Feed", "Reader", "Wanted", "tell"]
