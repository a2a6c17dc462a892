"""The example of a sweep on a Dask cluster, with fewer simulations, and workers that are threads."""

from __future__ import annotations

from pathlib import Path

from ..places import EXAMPLES
from .scripts import load_example, python

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
