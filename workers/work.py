"""One record in the hands of a lane: its bytes, its state, what Redis knows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from broker.codings import Decoder
from broker.lanes import Claim, RecordReport
from broker.parts import FilePart
from broker.store import BlobStore, Congested, Part
from schemas.errors import StorageError
from schemas.records import (
    Checkpoint,
    Digest,
    RecordResult,
    RecordState,
    ResponseHead,
    Validators,
)
from schemas.requests import Request
from workers.allowance import Allowance
from workers.ranges import validators_of
from workers.retry import may_repeat

T = TypeVar("T")


class Work:
    """A claimed record, until it is settled (``result``) or given back (``delay``)."""

    def __init__(
        self,
        claim: Claim,
        store: BlobStore,
        allowance: Allowance,
        parked: Work | None = None,
        *,
        digest: Digest = Digest.SHA256,
        threads: CapacityLimiter | None = None,
    ) -> None:
        """``parked`` is this lane's earlier work on the record, its part still open.

        ``threads`` are those that wait for the store, others than usual if given.
        """
        state = claim.state
        self.index = claim.index
        self.request: Request = claim.request
        self.repeatable = may_repeat(claim.request.method, claim.request.header_list)
        """Whether its request may reach the origin a second time."""
        self.part: Part | None = None
        self.result = RecordResult.OPEN
        self.delay: timedelta | None = None
        self.head: ResponseHead | None = state.head
        self.attempts = state.attempts
        self.restarts = state.restarts
        self.mismatches = state.mismatches
        self.began = state.began
        self.failures = state.failures
        self.unreached = state.unreached
        self.detail = state.detail
        self.uploaded = 0
        self._store = store
        self._threads = threads
        self._allowance = allowance
        self._validators = state.validators
        self._checkpoint = state.checkpoint
        self._hashing = digest is Digest.SHA256
        self._digest = ""
        self._final = False
        self._counted = claim.stored
        self._named = state.checkpoint.part if state.checkpoint else ""
        self._offered = ""
        self.void = False
        """Whether another lane may have the record: nothing is told of it any more."""
        self._told: tuple[int, int] | None = None
        self._told_state: RecordState | None = None
        if parked is not None:
            self._take_over(parked)

    def _take_over(self, parked: Work) -> None:
        part, expected = parked.part, self._checkpoint
        if part is not None and expected is not None and part.name == expected.part:
            self.part, parked.part = part, None
            self._counted = parked._counted
        parked.discard()

    @property
    def validators(self) -> Validators | None:
        """What tells the version of the stored bytes from others (R7)."""
        # Read from the head when first asked for: most files arrive in one piece.
        if self._validators is None and self.head is not None:
            self._validators = validators_of(self.head)
        return self._validators

    @property
    def length(self) -> int:
        """Bytes of the current part, from the first on."""
        return self.part.length if self.part else 0

    @property
    def _ahead(self) -> int:
        return self.part.ahead if self.part else 0

    @property
    def unsaved(self) -> int:
        """Bytes that the last checkpoint does not name."""
        saved = self._checkpoint.length if self._checkpoint else 0
        return max(0, self.length - saved)

    @property
    def decided(self) -> bool:
        """Whether nothing more is to be done for now."""
        return self.result is not RecordResult.OPEN or self.delay is not None

    @property
    def metered(self) -> bool:
        """Whether its bytes may have to wait until Redis grants them (R18)."""
        return self._allowance.granted >= 0

    @property
    def whole(self) -> bool:
        """Whether the part is complete and should become a blob."""
        exposed = (RecordResult.SUCCESS, RecordResult.BAD_STATUS)
        kept = self._final or self.part is None
        return self.result in exposed and not kept

    async def open(self) -> None:
        """Go on with the part that a predecessor left, if it can be proved (R4)."""
        if self.part is None and self._checkpoint is not None:
            self.part = await self._in_thread(self._resume, self._checkpoint)
        if self.part is None:
            self._checkpoint = self.head = self._validators = None
        self._count(self.length + self._ahead)

    def _resume(self, checkpoint: Checkpoint) -> Part | None:
        part = self._store.resume(checkpoint, digest=self._hashing)
        if part is not None:
            part.rehash()
        return part

    async def _in_thread(self, step: Callable[..., T], *arguments: object) -> T:
        # A thread that waits for a network is left to itself by those that leave.
        return await to_thread.run_sync(
            step,
            *arguments,
            abandon_on_cancel=self._store.remote,
            limiter=self._threads,
        )

    def _count(self, length: int) -> None:
        self._allowance.used += length - self._counted
        self._counted = length

    def begin_part(self, head: ResponseHead) -> None:
        """Store the body of a first answer, in a part of its own (R3)."""
        self.head, self._validators = head, None
        if self.part is None:
            self.part = self._store.create(digest=self._hashing)
            self._checkpoint = Checkpoint(
                store=self._store.id, part=self.part.name, length=0
            )

    def write(self, chunk: bytes) -> bool:
        """Store the next bytes; False if they exceed what this fetch may store.

        Raises:
            Congested: the store has no room for them yet, or the quota is to be asked.
        """
        if self._allowance.record and self._too_long(self.length + len(chunk)):
            return False
        exceeded = self._allowance.take(len(chunk))
        if exceeded is not None:
            self._exceed(*exceeded)
            return False
        assert self.part is not None
        try:
            self.part.offer(chunk)
        except Congested:
            self._allowance.used -= len(chunk)
            raise
        self._counted += len(chunk)
        return True

    def put(self, offset: int, blocks: Sequence[bytes]) -> bool:
        """Store bytes at their place; False if they exceed what may be stored (R18).

        To be called only for bytes that an answer proved to be of the part's version.
        """
        size = sum(map(len, blocks))
        exceeded = self._allowance.take(size)
        if exceeded is not None:
            self._exceed(*exceeded)
            return False
        assert isinstance(self.part, FilePart)
        self.part.put(offset, blocks)
        self._counted += size
        return True

    def _exceed(self, result: RecordResult, detail: str) -> None:
        self.settle(result, detail)
        self._count(self._ahead)  # the rest may others have: it goes when Redis knows

    def fits(self) -> bool:
        """Whether the record may be as long as its head announces; else it is over."""
        bodiless = self.request.method == "HEAD"
        if bodiless or not self._allowance.record or self.validators is None:
            return True
        return not self._too_long(self.validators.length or 0)

    def _too_long(self, length: int) -> bool:
        most = self._allowance.record
        if length > most:
            told = f"more than {most} bytes in one record (BGFETCH_MAX_RECORD_BYTES)"
            self.settle(RecordResult.QUOTA_EXCEEDED, told)
        return length > most

    async def digest(self, algorithm: str, decoder: Decoder | None) -> bytes:
        """Hash what is stored, or decodes to, off the loop; nobody writes meanwhile.

        Raises:
            UndecodableBody: the decoder refuses the bytes.
        """
        assert self.part is not None
        if decoder is None:
            return await to_thread.run_sync(self.part.digest_in, algorithm)
        found = await to_thread.run_sync(self.part.digest_in, algorithm, decoder.decode)
        decoder.finish()
        return found

    def begin_again(self, reason: str) -> None:
        """Give up what is stored: the next bytes go to a new part (R3)."""
        self.restarts += 1
        self.detail = f"began again: {reason}"
        self._drop_part()
        self.head = self._validators = self._checkpoint = None

    def _drop_part(self) -> None:
        part, self.part = self.part, None
        self._count(0)
        if part is not None:
            part.close()
            # A part that Redis names may have a reader; it goes when Redis knows. A
            # report on its way may be naming this one.
            if part.name not in (self._named, self._offered):
                self._store.discard([part.name])

    def settle(self, result: RecordResult, detail: str = "") -> None:
        """The record has ended; ``detail`` is for people."""
        self.result, self.delay, self.detail = result, None, detail
        self.failures = self.unreached = 0

    def fail(self, detail: str) -> None:
        """Settle as ``fetch-error``."""
        self.settle(RecordResult.FETCH_ERROR, detail)

    def storage_failed(self, error: StorageError) -> None:
        """Settle because the disk refused: a full one is a quota (BF-REC-17)."""
        full = any(name in str(error) for name in ("ENOSPC", "EDQUOT"))
        result = RecordResult.QUOTA_EXCEEDED if full else RecordResult.FETCH_ERROR
        self.settle(result, str(error))

    def give_back(self, delay: timedelta, detail: str = "") -> None:
        """Leave the record to whoever takes it after ``delay``, if it is open."""
        if not self.decided:
            self.delay = delay
            self.detail = detail or self.detail

    def stored(self, failure: StorageError | None) -> None:
        """The part became a blob, or could not."""
        if failure is not None:
            self.storage_failed(failure)
        elif self.part is not None and self._checkpoint is not None:
            self._final = True
            self._digest = self.part.digest if self._hashing else ""
            self._checkpoint = Checkpoint(
                store=self._checkpoint.store,
                part=self.part.name,
                length=self.part.length,
            )

    async def keep(self) -> None:
        """Make a whole part a blob now, and not together with others.

        For stores that may take long: until this returns the record is open, and its
        lane keeps its lease.
        """
        if self.whole and self.part is not None:
            [failure] = await self._in_thread(self._store.finish, [self.part])
            self.stored(failure)

    def flush(self) -> bool:
        """Make new bytes readable; True if there is something new to report."""
        if self.part is not None:
            try:
                self.part.flush()
            except StorageError:
                return False  # the transfer's next write meets the same failure
        return (self.length, self.uploaded) != self._told or self._state_changed()

    def _state_changed(self) -> bool:
        return self._state() != self._told_state

    async def make_checkpoint(self) -> None:
        """Name the bytes that a successor need not download again (R5)."""
        part = self.part
        if part is not None:
            checkpoint = await self._in_thread(part.checkpoint)
            # The part may have become a blob meanwhile, and its checkpoint final.
            if part is self.part and not self._final:
                self._checkpoint = checkpoint

    def _state(self) -> RecordState:
        shown = self.result.exposed
        return RecordState(
            head=self.head if shown else None,
            # They are for going on; and reading them takes as long as all the rest.
            validators=self.validators if self.result is RecordResult.OPEN else None,
            checkpoint=self._checkpoint if shown else None,
            digest=self._digest,
            attempts=self.attempts,
            restarts=self.restarts,
            mismatches=self.mismatches,
            began=self.began,
            failures=self.failures,
            unreached=self.unreached,
            detail=self.detail,
        )

    def report(self) -> RecordReport:
        """How the record stands now, for Redis."""
        state = self._state()
        self._offered = state.checkpoint.part if state.checkpoint else ""
        return RecordReport(
            self.index,
            # What is ahead of the length nobody can read, nor go on with (R5, R8).
            self._counted - self._ahead if self.result.exposed else 0,
            self.uploaded,
            self.result,
            self.delay,
            None if state == self._told_state else state,
        )

    def reported(self, report: RecordReport) -> None:
        """Redis has the report."""
        self._told = (report.stored, report.uploaded)
        if report.state is not None:
            self._told_state = report.state
            current = report.state.checkpoint
            before, self._named = self._named, current.part if current else ""
            if before and before != self._named:
                self._store.discard([before])
        if not self.result.exposed:
            self._drop_part()

    def discard(self) -> str:
        """Close the part and leave it where it is; return its name, if there is one."""
        self._count(self._counted - self._ahead)
        part, self.part = self.part, None
        if part is None:
            return ""
        part.close()
        return part.name
