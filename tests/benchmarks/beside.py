"""Side by side with download programs: the same files, the same machine, in turn."""

from __future__ import annotations

from collections.abc import Sequence

from broker.embedded import find_server
from tests.benchmarks import origin, report, service
from tests.benchmarks.cases import Case, Hashing
from tests.benchmarks.limit import Limit
from tests.benchmarks.measure import MIB, Contender, interleave
from tests.benchmarks.peers import AT_ONCE, find_peers
from tests.benchmarks.plain_copy import PlainCopy
from tests.benchmarks.workspace import file_system, workspace


def measure(case: Case, rounds: int) -> report.Figures:
    """Let us and the installed peers do the work of a case in turn.

    Raises:
        BenchmarkError: somebody did not do it.
    """
    hashed = case.hashing is not Hashing.NOBODY
    with (
        workspace(case) as directory,
        origin.serve(directory / "origin", case.count, case.size) as files,
        service.serve(directory, files, hashed=hashed) as running,
    ):
        both = case.hashing is Hashing.BOTH
        peers, missing = find_peers(files, directory, hashed=both)
        limit: Contender = Limit(files, directory)
        if not hashed:
            limit = PlainCopy(files, directory)
        kind = file_system(directory)
        ours = running.contender([files.urls])
        medians = interleave([ours, *peers, limit], rounds)
        peak = running.peak_mib
    rates = {name: case.rate(sample) for name, sample in medians.items()}
    shown = [ours.name, *(peer.name for peer in peers)]
    return report.Figures(
        case=case.name,
        unit=case.unit,
        ours=rates[ours.name],
        peers={peer.name: rates[peer.name] for peer in peers},
        limits={limit.name: rates[limit.name]},
        aim=case.aim,
        rss_mib=peak,
        cpu_seconds={name: medians[name].cpu for name in shown},
        note=_note(case, kind, [peer.name for peer in peers], missing),
    )


def _note(case: Case, kind: str, peers: Sequence[str], missing: Sequence[str]) -> str:
    server = find_server()
    size = f"{case.size / MIB:.4g} MiB" if case.size >= MIB else f"{case.size} bytes"
    whose = {
        Hashing.OURS: "a sha256 of every file on our side alone",
        Hashing.BOTH: "a sha256 of every file on each side",
        Hashing.NOBODY: "no digest on any side",
    }
    sentences = [
        f"{case.count} x {size} to {kind}, {AT_ONCE} at once",
        "no fsync on any side",
        whose[case.hashing],
        f"ours: {server.kind} {server.version} with AOF everysec",
    ]
    if peers:
        sentences.append(f"{', '.join(peers)}: process start included")
    if missing:
        sentences.append(f"not installed and left out: {', '.join(missing)}")
    return "; ".join(sentences)
