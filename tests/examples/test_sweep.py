"""The example of a sweep on a Dask cluster, run as a newcomer runs it, with fewer simulations."""

from __future__ import annotations

from pathlib import Path

from .scripts import load_example, run_example


def test_a_sweep_finds_the_best_pair(tmp_path: Path) -> None:
    """The best pair that the sweep finds is the same as in plain Python."""
    sweep = load_example("sweep")
    pairs = [(0.5 + 5 * row / 2, 1.0 + 9 * column / 2) for row in range(2) for column in range(2)]
    damping, stiffness, swing = sweep.best(pairs, [sweep.overshoot(sweep.simulate(*pair)) for pair in pairs])
    timeline = tmp_path / "timeline.svg"
    done = run_example("sweep", "--size", 2, "--timeline", timeline)
    assert done.returncode == 0, done.stderr
    assert f"best of 4: damping {damping:.3g}, stiffness {stiffness:.3g}; it overshoots by {swing:.2g}" in done.stdout
    assert "overshoot(simulate(0.5, 1.0))" in timeline.read_text()
