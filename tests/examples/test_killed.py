"""The examples that kill and resume a batch of calls, and sweep on a cluster, run as a newcomer runs them."""

from pathlib import Path
from ..places import EXAMPLES
from .scripts import load_example, python, run_example


def test_a_batch_that_is_killed_finishes() -> None:
    """A batch that is killed gives the right result, and the example asserts that few calls are repeated."""
    done = run_example("killed", "--calls", 40, "--kills", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("killed after") == 1
    assert f"the sum of 40 squares is {sum(n * n for n in range(40))};" in done.stdout
    assert "41 jobs kept, 2 runs; last run: 'Scheduler'" in done.stdout


# --- the example of a sweep on a Dask cluster, with fewer simulations, and workers that are threads

WITH_THREADS = """
import distributed, functools, runpy, sys
distributed.LocalCluster = functools.partial(distributed.LocalCluster, processes=False)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_sweep_finds_the_best_pair(tmp_path: Path) -> None:
    sweep = load_example("sweep")
    pairs = [(0.5 + 5 * row / 2, 1.0 + 9 * column / 2) for row in range(2) for column in range(2)]
    damping, stiffness, swing = sweep.best(pairs, [sweep.overshoot(sweep.simulate(*pair)) for pair in pairs])
    timeline = tmp_path / "timeline.svg"
    done = python("-c", WITH_THREADS, EXAMPLES / "sweep.py", "--size", 2, "--timeline", timeline)
    assert done.returncode == 0, done.stderr
    assert f"best of 4: damping {damping:.3g}, stiffness {stiffness:.3g}; it overshoots by {swing:.2g}" in done.stdout
    assert "overshoot(simulate(0.5, 1.0))" in timeline.read_text()
