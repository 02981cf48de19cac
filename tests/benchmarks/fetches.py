"""``tiny-fetches``: many fetches of one small file, beside RQ's own SimpleWorker."""

from __future__ import annotations

from tests.benchmarks import origin, report, service, simple_worker
from tests.benchmarks.cases import Case
from tests.benchmarks.limit import Limit
from tests.benchmarks.measure import interleave
from tests.benchmarks.workspace import workspace


def measure(case: Case, rounds: int) -> report.Figures:
    """Register each file as a fetch of its own, with one worker process.

    Raises:
        BenchmarkError: somebody did not do the work.
    """
    with (
        workspace(case) as directory,
        origin.serve(directory / "origin", case.count, case.size) as files,
        service.serve(directory, files) as running,
        simple_worker.serve(directory, files, running.server) as peer,
    ):
        ours = running.contender([[url] for url in files.urls])
        limit = Limit(files, directory)
        medians = interleave([ours, peer, limit], rounds)
        peak = running.peak_mib
    rates = {name: case.rate(sample) for name, sample in medians.items()}
    return report.Figures(
        case=case.name,
        unit=case.unit,
        ours=rates[ours.name],
        peers={peer.name: rates[peer.name]},
        limits={limit.name: rates[limit.name]},
        aim=case.aim,
        rss_mib=peak,
        cpu_seconds={each: medians[each].cpu for each in (ours.name, peer.name)},
        note=(
            f"{case.count} fetches of one file of {case.size} bytes, "
            f"{service.PRODUCERS} being registered at once, to {case.count} completion "
            "events; simple-worker: jobs enqueued in one call, each a download with a "
            "pycurl handle that is used again, results not kept; one worker each"
        ),
    )
