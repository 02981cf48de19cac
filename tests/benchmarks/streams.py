"""``segments``: one large file in four streams, beside one and ``aria2c -x4``."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from tests.benchmarks import origin, report, service
from tests.benchmarks.cases import Case
from tests.benchmarks.measure import MIB, Contender, find_program, interleave
from tests.benchmarks.peers import Aria2
from tests.benchmarks.workspace import workspace

STREAMS = 4
_RATES = {"segments": 8 * MIB, "segments-unlimited": 0}
_LEAST = "1MiB"


class SplitAria2(Aria2):
    """``aria2c -x4 -s4``, with segments as small as ours."""

    name = f"aria2 -x{STREAMS}"

    @override
    def _command(self) -> list[str]:
        split = [f"-x{STREAMS}", f"-s{STREAMS}", f"--min-split-size={_LEAST[:2]}"]
        return [*super()._command(), *split]


def measure(case: Case, rounds: int) -> report.Figures:
    """Compare four streams with one, from an origin that limits each answer or not.

    Raises:
        BenchmarkError: a run did not do its work.
    """
    rate = _RATES[case.name]
    split = {"BGFETCH_SEGMENT_SIZE": _LEAST, "BGFETCH_SEGMENTS": str(STREAMS)}
    with (
        workspace(case) as directory,
        origin.serve(directory / "origin", 1, case.size, rate=rate) as files,
        service.serve(directory / "four", files, more=split) as several,
        service.serve(directory / "one", files) as single,
    ):
        four = several.contender([files.urls])
        one = single.contender([files.urls], name="one stream")
        aria2 = _aria2(files, directory)
        medians = interleave([four, one, *aria2], rounds)
        peak = several.peak_mib
    rates = {name: case.rate(sample) for name, sample in medians.items()}
    limit = f"{rate / MIB:g} MiB/s for each answer" if rate else "no limit"
    return report.Figures(
        case=case.name,
        unit=case.unit,
        ours=rates.pop(four.name),
        peers=rates,
        aim=case.aim,
        rss_mib=peak,
        cpu_seconds={name: sample.cpu for name, sample in medians.items()},
        note=f"1 x {case.size / MIB:.4g} MiB in {STREAMS} streams; {limit}; a sha256 "
        "of the file on our side alone",
    )


def _aria2(files: origin.Origin, directory: Path) -> list[Contender]:
    program = find_program("aria2c")
    return [SplitAria2(program, files, directory, hashed=False)] if program else []
