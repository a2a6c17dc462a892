"""Each reader is told each end of a job once, in order, as it was: a few seeds, in CI 100, and a thousand in a soak."""

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow.testing import run_virtual
from .law import broken_by, logged
from .worlds import World

MANY = [
    pytest.param(
        range(first, first + 50),
        marks=pytest.mark.ci if first < 100 else pytest.mark.soak,
    )
    for first in range(0, 1050, 50)
]

FOUND = (17, 174, 201)
"""The page asked while a group that is tried again was checked, and took its members for those of the new run. The runs
of a group began at one instant, and the trace gave the attempts of one to the other, too."""


@pytest.mark.parametrize(
    "seeds",
    [
        *(range(part, 8, 4) for part in range(4)),
        pytest.param(FOUND, marks=pytest.mark.ci),
        *MANY,
    ],
)
def test_each_end_is_told_once_to_each_reader(
    seeds: Sequence[int], backend: str
) -> None:
    """What fails in random runs is tried again by each door, and each reader has the story that the run itself has."""
    for seed in seeds:
        assert (seed, broken_by(seed, backend)) == (seed, [])


def test_no_run_is_kept_by_what_has_happened_in_it(
    backend: str, tmp_path: Path
) -> None:
    """Failures refer to jobs, tracebacks to runs, and nothing that outlives a run to any of them."""

    async def run(seed: int) -> weakref.ref[Any]:
        scheduler = World(f"{seed}", str(tmp_path / f"{seed}.db")).scheduler
        # A held run waits for somebody.
        with anyio.move_on_after(99):
            await scheduler.co_run()
        return weakref.ref(scheduler)

    with logged():
        runs = {seed: run_virtual(run, seed, backend=backend) for seed in range(10)}
    # What has a finalizer goes in a later pass than what refers to it.
    for _ in range(4):
        gc.collect()
    assert [seed for seed, scheduler in runs.items() if scheduler() is not None] == []
