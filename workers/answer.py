"""The answers to the requests for one record, redirects among them, as they arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from schemas.records import ResponseHead
from workers.exchange import Outgoing
from workers.redirects import STATUSES
from workers.work import Work


class Judge(Protocol):
    """Decides on answers."""

    def note(self, head: ResponseHead) -> None:
        """Hear of any answer."""

    def judge(self, head: ResponseHead, offset: int) -> bool:
        """Decide what a final answer is worth; True if its body is wanted."""


class Answer:
    """Takes one answer: judged at its head, its bytes stored. A ``transport.Sink``."""

    def __init__(self, judge: Judge, work: Work, offset: int) -> None:
        """``offset`` bytes were stored when the request was made."""
        self.redirect: ResponseHead | None = None
        self.stored: ResponseHead | None = None
        """The head whose body was wanted."""
        self._judge = judge
        self._work = work
        self._offset = offset
        self._redirected = False

    def hop(self, outgoing: Outgoing) -> None:
        """The next answer is that to ``outgoing``, which a redirect led to."""
        self.redirect = None
        self._redirected = True

    def head(self, head: ResponseHead) -> bool:
        """Keep a redirect that is followed; have every other head judged."""
        self._judge.note(head)
        follows = self._work.request.redirect != "manual"
        located = head.get("Location") is not None
        if follows and located and head.status in STATUSES:
            self.redirect = head
            return False
        if self._redirected:
            head = replace(head, redirected=True)
        wanted = self._judge.judge(head, self._offset)
        self.stored = head if wanted else None
        return wanted

    def write(self, chunk: bytes) -> bool:
        """Store bytes of the body."""
        return self._work.write(chunk)
