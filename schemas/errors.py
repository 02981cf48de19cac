"""Every error a user of this project can meet, in one tree.

    BackgroundFetchError
    ├── RejectedFetch                 TypeError: ``fetch()`` refused its arguments
    │   ├── InvalidName               a scope, subscriber or fetch id
    │   ├── InvalidRequest            a method, header, body or mode
    │   │   └── InvalidURL            a URL that cannot or may not be fetched
    │   │       └── ForbiddenAddress  an address that the policy denies
    │   ├── InvalidOptions            title, icons, totals, hold
    │   ├── InvalidFilter             what is asked for among many fetches
    │   ├── NoActiveWorker            the scope requires a subscriber, and has none
    │   └── DuplicateFetch            the id belongs to an active fetch
    ├── RecordFailed                  TypeError: a response that is not exposed
    │   └── UndecodableBody           its content coding is unknown, broken or a bomb
    ├── Aborted                       AbortError: the fetch was aborted
    ├── NotAllowed                    NotAllowedError: the permission is denied
    ├── QuotaExceeded                 QuotaExceededError: no room for these bytes
    ├── InvalidState                  InvalidStateError: too late, or never possible
    ├── InvalidAccess                 InvalidAccessError: no user activation
    └── Failure                       AbortError: the surroundings failed, not the call
        ├── Unreachable               Redis does not answer
        ├── StartError                a program or server cannot be started
        ├── ConfigError               a setting or target that cannot be used
        ├── StorageError              the blob store refused a read or write
        └── InvalidMessage            bytes that are no message of ours
            └── NewerMessage          a message for a later release than this

``spec_name`` is the name of the exception in the specification and in the HTTP API.
Classes whose name there is ``TypeError`` are Python's ``TypeError`` as well.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar


class BackgroundFetchError(Exception):
    """Any error that this project raises on purpose."""

    spec_name: ClassVar[str] = "AbortError"


class RejectedFetch(BackgroundFetchError, TypeError):
    """The arguments of a call were refused; nothing was stored."""

    spec_name = "TypeError"


class InvalidName(RejectedFetch):
    """A scope, subscriber name or fetch id has the wrong form."""


class InvalidRequest(RejectedFetch):
    """A request has a method, header, body or mode that cannot be sent."""


class InvalidURL(InvalidRequest):
    """A URL cannot be parsed, or may not be fetched."""


class ForbiddenAddress(InvalidURL):
    """A URL names an address that the address policy denies."""


class InvalidOptions(RejectedFetch):
    """An option of ``fetch()`` has the wrong form."""


class InvalidFilter(RejectedFetch):
    """A filter of fetches, or where to go on in their list, cannot be understood."""


class NoActiveWorker(RejectedFetch):
    """The rules of the scope require a subscriber, and it has none."""


class DuplicateFetch(RejectedFetch):
    """An active background fetch in this scope already has this id."""


class RecordFailed(BackgroundFetchError, TypeError):
    """A record ended without a response that may be shown."""

    spec_name = "TypeError"


class UndecodableBody(RecordFailed):
    """A body cannot be decoded, or becomes too large; its stored bytes are whole."""


class Aborted(BackgroundFetchError):
    """The background fetch was aborted before this record was complete."""


class NotAllowed(BackgroundFetchError):
    """The scope's permission for background fetches is denied."""

    spec_name = "NotAllowedError"


class QuotaExceeded(BackgroundFetchError):
    """The bytes do not fit in what the scope may store."""

    spec_name = "QuotaExceededError"


class InvalidState(BackgroundFetchError):
    """The object is past the state in which this call is possible."""

    spec_name = "InvalidStateError"


class InvalidAccess(BackgroundFetchError):
    """The call needs a person's click, and there was none."""

    spec_name = "InvalidAccessError"


class Failure(BackgroundFetchError):
    """The surroundings failed; the same call may succeed later."""


class Unreachable(Failure):
    """Redis does not answer, or refuses commands for now."""


class StartError(Failure):
    """A program or server cannot be started; the message has the fix."""


class ConfigError(Failure):
    """A setting, module or attribute cannot be used; the message has the fix."""


class InvalidMessage(Failure):
    """Bytes are not a message of this project, or break its limits."""


class NewerMessage(InvalidMessage):
    """A message that only a later release of this project can read."""


class StorageError(Failure):
    """The blob store refused a read or a write."""

    @classmethod
    def from_os(cls, error: OSError, path: str | os.PathLike[str]) -> StorageError:
        """Name the errno, what it means and the path."""
        name = errno.errorcode.get(error.errno or 0, "EIO")
        return cls(f"{name} ({error.strerror}): {os.fspath(path)}")
