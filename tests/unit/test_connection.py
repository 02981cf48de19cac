"""What a server answers, and what that means here."""

from __future__ import annotations

import pytest
from redis.connection import DefaultParser
from redis.exceptions import ResponseError

from broker.connection import told_apart
from schemas.errors import QuotaExceeded, Unreachable

SERVER = "redis://:secret@redis:6379"


def parsed(answer: str) -> Exception:
    """The error that the client makes of it."""
    error = DefaultParser.parse_error(answer)  # type: ignore[no-untyped-call]
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize(
    "answer",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.",
        "UNBLOCKED force unblock from blocking operation, instance state changed",
        "BUSY Redis is busy running a script.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "NOGROUP No such key 'x' or consumer group 'y'",
    ],
)
def test_a_server_that_cannot_serve_for_now_is_away(answer: str) -> None:
    """Faults 76 and 77: whoever waits for Redis waits for this too."""
    with pytest.raises(Unreachable) as raised, told_apart(SERVER):
        raise parsed(answer)

    assert "secret" not in str(raised.value)


def test_a_server_without_room_is_told_apart_and_a_mistake_of_ours_is_left() -> None:
    with pytest.raises(QuotaExceeded), told_apart(SERVER):
        raise parsed("OOM command not allowed")
    with pytest.raises(ResponseError, match="WRONGTYPE"), told_apart(SERVER):
        raise parsed("WRONGTYPE Operation against a key")
