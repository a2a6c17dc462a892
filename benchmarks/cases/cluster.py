"""What calls on a Dask cluster cost: a function that does nothing, called many times by two worker processes.

The workers and the scheduler of the cluster count, so wall time is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals.of_clusters import RIVALS, ClusterRival, client

FEW = 10


def cluster(plan: Plan) -> Iterator[Contest]:
    """All calls at once."""
    contestants = [
        Contestant(
            rival.name,
            Setting(rival.backend, "", "no-op", plan.cluster_calls),
            partial(attempt, rival, plan.cluster_calls),
            partial(attempt, rival, FEW),
        )
        for rival in RIVALS
        if rival.is_installed and rival.backend in ("", *plan.backends)
    ]
    yield Contest("cluster", contestants, plan.few_rounds)


def attempt(rival: ClusterRival, number: int) -> Sample:
    """Make all calls, and divide the time by their number."""
    there = client()
    with Stopwatch() as watch:
        rival.run(there, number)
    return {"run wall": watch.wall / number * 1e6}
