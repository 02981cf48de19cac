"""What happens in one round: every choice, drawn from the seed and the round's number.

Only the exact moment is left to the machine: a step comes when so much is downloaded.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

KIB = 1024


class Proof(StrEnum):
    """By what an origin tells the versions of a file apart."""

    ETAG = "etag"
    DATE = "date"
    NONE = "none"
    NGINX = "nginx"
    """Another origin, whose ETag is made of size and mtime."""


class Act(StrEnum):
    """What a step does."""

    SWAP = "swap"
    """Another version of a file is served from now on."""
    KILL = "kill"
    """SIGKILL for a worker, and a new one at once."""
    STOP = "stop"
    """SIGSTOP for a worker, and SIGCONT later: a zombie that wakes."""
    LEAVE = "leave"
    """SIGTERM for a worker, and a new one at once."""
    CUT = "cut"
    """Every worker loses its connections to Redis."""
    MUTE = "mute"
    """The next answer to a script is lost, though the script did its work."""
    CRASH = "crash"
    """SIGKILL for Redis, which starts again with all that it had acknowledged."""
    FORGET = "forget"
    """The same, and the last scripts' writes are lost, acknowledged or not."""


_WEIGHTS = {
    Act.KILL: 24,
    Act.STOP: 30,
    Act.LEAVE: 8,
    Act.CUT: 8,
    Act.MUTE: 26,
    Act.CRASH: 2,
    Act.FORGET: 2,
}
_SCRIPTS = ("report", "report", "report", "take", "leave", "look")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a round: the versions that it will have, and how it is served."""

    proof: Proof
    versions: tuple[bytes, ...]
    rate: int | None
    cuts: tuple[int, ...]
    refusals: int


@dataclass(frozen=True, slots=True)
class Step:
    """An act, and when: at this share of the bytes that the round has at least."""

    share: float
    act: Act
    file: int = 0
    version: int = 0
    pick: float = 0.0
    """Which worker, as a share of those that run."""
    seconds: float = 0.0
    """How long a worker is stopped."""
    delay: float = 0.0
    """Seconds after the share was reached."""
    script: str = ""
    lost: int = 0
    """Bytes that Redis forgets, at most."""


@dataclass(frozen=True, slots=True)
class Round:
    """One background fetch: its files, and what happens meanwhile."""

    number: int
    files: tuple[File, ...]
    steps: tuple[Step, ...]

    @property
    def least(self) -> int:
        """Bytes that are downloaded in any case."""
        return sum(min(map(len, file.versions)) for file in self.files)


def plan_round(seed: int, number: int, *, nginx: bool) -> Round:
    """Draw a round; the same arguments give the same round."""
    choose = random.Random(f"{seed}/{number}")
    files = tuple(_file(choose, nginx=nginx) for _ in range(choose.randint(1, 5)))
    steps = [
        Step(choose.random(), Act.SWAP, file=index, version=version)
        for index, file in enumerate(files)
        for version in range(1, len(file.versions))
    ]
    steps += [_fault(choose) for _ in range(choose.randint(1, 3))]
    # The versions of one file come in their order.
    ordered = sorted(steps, key=lambda step: (step.share, step.version))
    return Round(number, files, tuple(ordered))


def _fault(choose: random.Random) -> Step:
    [act] = choose.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    return Step(
        choose.random() * 1.05,  # some of them just after the last byte
        act,
        pick=choose.random(),
        seconds=choose.choice((0.3, 0.8, 1.5, 2.5)),
        delay=choose.choice((0.0, 0.0, choose.random() * 0.06)),
        script=choose.choice(_SCRIPTS),
        lost=choose.randint(1, 20_000),
    )


def _file(choose: random.Random, *, nginx: bool) -> File:
    proofs = [Proof.ETAG] * 5 + [Proof.DATE] * 2 + [Proof.NONE]
    proof = choose.choice(proofs + [Proof.NGINX] * 4 * nginx)
    longest = 200 * KIB if proof is Proof.NONE else 2000 * KIB
    first = choose.randbytes(min(_size(choose), longest))
    versions = [first]
    for _ in range(choose.choice((0, 0, 1, 1, 1, 2, 3))):
        versions.append(_changed(choose, versions))
    size = len(first)
    rate = choose.choice((None, 500, 1000, 2000, 4000))
    cuts = [choose.randint(0, size) for _ in range(choose.choice((0, 0, 1, 2)))]
    return File(
        proof,
        tuple(versions),
        rate and rate * KIB,
        tuple(cuts),
        choose.choice((0, 0, 0, 1, 2)),
    )


# Without a proof a file begins at zero after each fault, so that it has to be short.
def _size(choose: random.Random) -> int:
    longest = choose.choice((0, 1, 100, 60, 300, 400, 600, 900, 2000)) * KIB
    return choose.randint(longest // 2, longest) if longest > KIB else longest // KIB


def _changed(choose: random.Random, versions: list[bytes]) -> bytes:
    last = versions[-1]
    half, size = len(last) // 2, len(last)
    match choose.randrange(7):
        case 0:  # the same length
            return choose.randbytes(size)
        case 1:  # and the same first half
            return last[:half] + choose.randbytes(size - half)
        case 2:  # and the same second half
            return choose.randbytes(half) + last[half:]
        case 3:  # longer
            return last + choose.randbytes(choose.randint(1, size + 1))
        case 4:  # shorter
            return last[:half]
        case 5:  # what it was once
            return versions[0] if len(versions) > 1 else choose.randbytes(size)
        case _:
            return choose.randbytes(_size(choose))
