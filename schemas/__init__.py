"""The concepts of Background Fetch with their rules; no I/O (§ Infrastructure)."""

from schemas import siblings
from schemas.addresses import AddressPolicy
from schemas.errors import (
    Aborted,
    BackgroundFetchError,
    ConfigError,
    DuplicateFetch,
    Failure,
    ForbiddenAddress,
    InvalidAccess,
    InvalidFilter,
    InvalidMessage,
    InvalidName,
    InvalidOptions,
    InvalidRequest,
    InvalidState,
    InvalidURL,
    NoActiveWorker,
    NotAllowed,
    QuotaExceeded,
    RecordFailed,
    RejectedFetch,
    StartError,
    StorageError,
    UndecodableBody,
    Unreachable,
)
from schemas.events import EventMessage, EventType, WindowMessage
from schemas.fetches import FailureReason, FetchState, Priority, Progress, Result
from schemas.options import ImageResource
from schemas.policies import Permission
from schemas.records import RecordResult, RecordState, ResponseHead
from schemas.requests import Request

siblings.check()

__all__ = [
    "Aborted",
    "AddressPolicy",
    "BackgroundFetchError",
    "ConfigError",
    "DuplicateFetch",
    "EventMessage",
    "EventType",
    "Failure",
    "FailureReason",
    "FetchState",
    "ForbiddenAddress",
    "ImageResource",
    "InvalidAccess",
    "InvalidFilter",
    "InvalidMessage",
    "InvalidName",
    "InvalidOptions",
    "InvalidRequest",
    "InvalidState",
    "InvalidURL",
    "NoActiveWorker",
    "NotAllowed",
    "Permission",
    "Priority",
    "Progress",
    "QuotaExceeded",
    "RecordFailed",
    "RecordResult",
    "RecordState",
    "RejectedFetch",
    "Request",
    "ResponseHead",
    "Result",
    "StartError",
    "StorageError",
    "UndecodableBody",
    "Unreachable",
    "WindowMessage",
]
