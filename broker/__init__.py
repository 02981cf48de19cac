"""Register background fetches and read what they bring (§ API)."""

try:
    from schemas import siblings
except ImportError as error:
    import schemas

    raise ImportError(
        f"{__path__[0]} needs its own package 'schemas' beside it, but Python finds "
        f"{next(iter(schemas.__path__))}: rename that one, or take it off sys.path"
    ) from error

from broker.headers import Headers
from broker.manager import BackgroundFetchManager, connect
from broker.progress_events import ProgressEvent
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from broker.response import Response
from broker.settings import Settings
from broker.store import Durability
from schemas import (
    FailureReason,
    FetchState,
    ImageResource,
    Priority,
    Progress,
    RecordResult,
    Request,
    Result,
)

siblings.check()

__all__ = [
    "BackgroundFetchManager",
    "BackgroundFetchRecord",
    "BackgroundFetchRegistration",
    "Durability",
    "FailureReason",
    "FetchState",
    "Headers",
    "ImageResource",
    "Priority",
    "Progress",
    "ProgressEvent",
    "RecordResult",
    "Request",
    "Response",
    "Result",
    "Settings",
    "connect",
]
