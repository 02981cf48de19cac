"""A download from an origin that changes, forgets and breaks off (R7, guarantee 2)."""

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.records import ResponseHead, Validators
from workers.ranges import (
    Complete,
    Ending,
    Fail,
    Restart,
    Store,
    finished,
    judge,
    range_headers,
    resumable,
    validators_of,
)

DATE = "Tue, 03 Jan 2023 03:04:05 GMT"
YOUNG = "Tue, 03 Jan 2023 03:03:06 GMT"


@dataclass(frozen=True)
class Quirk:
    """One answer of an origin that may be honest, sloppy or wrong, and breaks off."""

    version: int
    host: str = "a.example"
    ignores_range: bool = False
    ignores_if_range: bool = False
    forgets: frozenset[str] = field(default_factory=frozenset)
    shift: int = 0
    piece: int = 100
    cut: int = 100


class Origin:
    """Serves versions of one length or several; each is told apart by its bytes."""

    def __init__(self, kind: str, lengths: list[int]) -> None:
        self.kind = kind
        self.lengths = lengths

    def body(self, version: int, host: str) -> bytes:
        """The bytes of one version at one host, unlike those of any other."""
        mark = 16 * (2 * version + (host == "b.example"))
        return bytes(range(mark, mark + self.lengths[version]))

    def validators(self, version: int) -> dict[str, str]:
        """Equal on both hosts; between versions equal only where that is allowed."""
        own = f"Mon, 02 Jan 2023 03:04:{version:02} GMT"
        found = {"Date": DATE}
        if self.kind in ("tagged", "strong"):
            found |= {"ETag": f'"{version}"'}
        if self.kind == "strong":
            found |= {"Last-Modified": own}
        if self.kind == "weak":
            found |= {"ETag": 'W/"same"', "Last-Modified": own}
        if self.kind == "dated":
            found |= {"Last-Modified": own}
        if self.kind == "young":
            found |= {"ETag": 'W/"same"', "Last-Modified": YOUNG}
        return found

    def answer(
        self, quirk: Quirk, asked: tuple[tuple[str, str], ...]
    ) -> tuple[ResponseHead, bytes]:
        """Answer a request, as the quirk has it."""
        body = self.body(quirk.version, quirk.host)
        headers = self.validators(quirk.version)
        wanted = dict(asked)
        matches = quirk.ignores_if_range or wanted.get("If-Range") in headers.values()
        status, complete = 200, str(len(body))
        if wanted and matches and not quirk.ignores_range:
            offset = int(wanted["Range"].removeprefix("bytes=").rstrip("-"))
            offset = max(0, offset + quirk.shift)
            end = min(len(body), offset + quirk.piece)
            if "complete" in quirk.forgets:
                complete = "*"
            status = 206 if offset < end else 416
            span = f"{offset}-{end - 1}" if status == 206 else "*"
            if status == 416:
                complete = str(len(body))
            headers["Content-Range"] = f"bytes {span}/{complete}"
            body = body[offset:end]
        headers["Content-Length"] = str(len(body))
        kept = [(k, v) for k, v in headers.items() if k not in quirk.forgets]
        url = f"https://{quirk.host}/file"
        return ResponseHead(status=status, headers=tuple(kept), url=url), body


def download(origin: Origin, answers: list[Quirk]) -> bytes | None:
    """Follow the verdicts; return the bytes of a part that was declared whole."""
    part, sent, restarts = bytearray(), Validators(), 0
    for quirk in answers:
        asked = range_headers(len(part), sent) if resumable("GET", sent, []) else ()
        head, body = origin.answer(quirk, asked)
        verdict = judge(
            head,
            stored=len(part),
            sent=sent,
            range_sent=bool(asked),
            method="GET",
            restarts=restarts,
        )
        match verdict:
            case Complete():
                return bytes(part)
            case Fail():
                return None
            case Restart():
                part, sent, restarts = bytearray(), Validators(), restarts + 1
                continue
            case Store(0):
                part, sent = bytearray(), validators_of(head)
            case Store(offset):
                assert offset == len(part)
        part += body[: quirk.cut]
        if quirk.cut >= len(body):
            ending = finished(head, len(part))
            assert ending in (Ending.FINISHED, Ending.MORE)
            if ending is Ending.FINISHED:
                return bytes(part)
    return None


quirks = st.builds(
    Quirk,
    version=st.integers(0, 2),
    host=st.sampled_from(["a.example", "a.example", "b.example"]),
    ignores_range=st.booleans(),
    ignores_if_range=st.booleans(),
    forgets=st.frozensets(
        st.sampled_from(["ETag", "Last-Modified", "Content-Length", "complete"])
    ),
    shift=st.sampled_from([0, 0, 0, -1, 1]),
    piece=st.integers(1, 12),
    cut=st.integers(0, 12),
)
NO_PROOF = frozenset({"ETag", "Last-Modified"})
CUT = Quirk(version=0, cut=4)
CUT_WITHOUT_LENGTH = Quirk(version=0, cut=4, forgets=frozenset({"Content-Length"}))
WRONG = Quirk(version=1, ignores_if_range=True)
UNPROVED = Quirk(version=1, ignores_if_range=True, forgets=NO_PROOF)


@settings(max_examples=300)
@given(
    kind=st.sampled_from(["tagged", "strong", "weak", "dated", "young", "none"]),
    lengths=st.lists(st.sampled_from([4, 8, 10]), min_size=3, max_size=3),
    answers=st.lists(quirks, max_size=8),
)
@example("tagged", [8, 8, 8], [CUT, WRONG])
@example("dated", [8, 8, 8], [CUT, UNPROVED])
@example("young", [8, 8, 8], [CUT, WRONG])
@example("strong", [8, 8, 8], [CUT, Quirk(version=0, host="b.example")])
@example("strong", [8, 8, 8], [CUT, Quirk(version=0, shift=1)])
@example("tagged", [8, 4, 8], [CUT_WITHOUT_LENGTH, UNPROVED])
def test_no_blob_has_bytes_of_two_versions(
    kind: str, lengths: list[int], answers: list[Quirk]
) -> None:
    """Guarantee 2: cut anywhere, whatever the origin changes or forgets (fault 55)."""
    origin = Origin(kind, lengths)

    blob = download(origin, [*answers, Quirk(0), Quirk(0), Quirk(0)])

    versions = [origin.body(v, h) for v in range(3) for h in ("a.example", "b.example")]
    assert blob is None or blob in versions


@given(cuts=st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_an_honest_origin_that_breaks_off_is_resumed_to_the_end(
    cuts: list[int],
) -> None:
    """Fault 42: every byte is transferred once."""
    origin = Origin("strong", [12])
    answers = [Quirk(0, cut=cut) for cut in cuts]

    assert download(origin, [*answers, Quirk(0)]) == origin.body(0, "a.example")
    assert download(origin, [Quirk(0, cut=4), Quirk(0, cut=4), Quirk(0, cut=4)]) == (
        origin.body(0, "a.example")
    )
