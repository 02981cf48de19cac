"""``flat`` and ``two-workers``: what a larger fetch, or one more worker, brings."""

from __future__ import annotations

import os
from dataclasses import replace

from tests.benchmarks import origin, report, service
from tests.benchmarks.cases import Case
from tests.benchmarks.measure import interleave
from tests.benchmarks.workspace import workspace

_SMALL = 100
"""A flat case compares its fetch with one of so many times fewer records."""
_CORES = 5
"""Two workers, nginx, Redis and the producer: one for each."""


def flat(case: Case, rounds: int) -> report.Figures:
    """Compare a file's cost in one huge fetch with that in one of a hundredth of it.

    Raises:
        BenchmarkError: a run did not do its work.
    """
    few = max(1, case.count // _SMALL)
    with (
        workspace(case) as directory,
        origin.serve(directory / "origin", few, case.size) as files,
        service.serve(directory, files) as running,
    ):
        # Files again and again: other URLs, and nothing of an origin's to grow.
        many = [f"{files.urls[n % few]}?{n}" for n in range(case.count)]
        large = running.contender([many])
        small = running.contender([files.urls], name=f"{few} records")
        medians = interleave([small, large], rounds)
        peak = running.peak_mib
    rate = case.rate(medians[large.name])
    costs = (
        f"{medians[each.name].cpu / count * 1e6:.0f}"
        for each, count in ((small, few), (large, case.count))
    )
    return report.Figures(
        case=case.name,
        unit=case.unit,
        ours=rate,
        peers={small.name: few / medians[small.name].wall},
        aim=case.aim,
        rss_mib=peak,
        cpu_seconds={name: sample.cpu for name, sample in medians.items()},
        note=(
            f"one fetch of {case.count} records beside one of {few}; a ratio of 1 is "
            f"flat; CPU microseconds for each file: {' and '.join(costs)}, the smaller "
            "fetch first"
        ),
    )


def two_workers(case: Case, rounds: int) -> report.Outcome:
    """Compare two worker processes with one, where the machine has room for them.

    Raises:
        BenchmarkError: a run did not do its work.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    cores = cores or os.cpu_count() or 1
    if cores < _CORES:
        return report.Skipped(
            case.name,
            f"{_CORES} cores are needed (two workers, nginx, Redis, producer), "
            f"here are {cores}",
        )
    with (
        workspace(replace(case, count=2 * case.count)) as directory,
        origin.serve(directory / "origin", case.count, case.size) as files,
        service.serve(directory / "two", files, workers=2) as pair,
        service.serve(directory / "one", files) as alone,
    ):
        two = pair.contender([files.urls])
        one = alone.contender([files.urls], name="one worker")
        medians = interleave([two, one], rounds)
        peak = pair.peak_mib
    return report.Figures(
        case=case.name,
        unit=case.unit,
        ours=case.rate(medians[two.name]),
        peers={one.name: case.rate(medians[one.name])},
        aim=case.aim,
        rss_mib=peak,
        cpu_seconds={name: sample.cpu for name, sample in medians.items()},
        note=f"{case.count} x {case.size} bytes in one fetch; two workers beside one",
    )
