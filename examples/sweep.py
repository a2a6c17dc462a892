"""Sweep two parameters on a Dask cluster, and keep the large results there.

    python examples/sweep.py [--size N] [--workers N] [--monitor] [--timeline FILE.svg]

A damped oscillator is simulated for each pair of a damping and a stiffness. What a simulation returns, some hundred
kilobytes, stays on the worker that made it: the next job takes it from there, and only numbers come back.

    simulate (damping, stiffness) ──► overshoot ──┐
    simulate ...                  ──► overshoot ──┼──► best      on the cluster, except for what `best` returns
    simulate ...                  ──► overshoot ──┘

The cluster is made of processes of this machine; with the address of another one in `Client`, the same scenario runs
there. It needs the extra `dask`: pip install "trioflow[dask]".
"""

from __future__ import annotations

import argparse
import array
import itertools
import sys
from pathlib import Path

from distributed import Client, LocalCluster

from trioflow import Monitor, ProcessJob, Scheduler, Trace
from trioflow.dask import Cluster
from trioflow.view import save

STEPS = 50_000


def simulate(damping: float, stiffness: float) -> array.array[float]:
    """Return the position of the oscillator after each step, released at 1."""
    position, speed, step = 1.0, 0.0, 0.001
    positions = array.array("d")
    for _ in range(STEPS):
        speed -= (damping * speed + stiffness * position) * step
        position += speed * step
        positions.append(position)
    return positions


def overshoot(positions: array.array[float]) -> float:
    """Return how far the oscillator swings to the other side."""
    return max(0.0, -min(positions))


def best(
    pairs: list[tuple[float, float]], overshoots: list[float]
) -> tuple[float, float, float]:
    """Return the pair with the least overshoot, the stiffest of them, and its overshoot."""
    found = min(
        zip(overshoots, pairs, strict=True),
        key=lambda one: (round(one[0], 6), -one[1][1]),
    )
    return *found[1], found[0]


def scenario(
    client: Client, size: int
) -> tuple[Scheduler, ProcessJob[tuple[float, float, float]]]:
    """Return the sweep of `size` dampings and as many stiffnesses, and its last job."""
    pairs = [
        (0.5 + 5 * row / size, 1.0 + 9 * column / size)
        for row, column in itertools.product(range(size), repeat=2)
    ]
    simulations = [ProcessJob(simulate, *pair, keep_result=False) for pair in pairs]
    measured = [ProcessJob(overshoot, one) for one in simulations]
    last = ProcessJob(best, pairs, measured, label="best")
    return Scheduler(
        simulations, measured, last, label="sweep", processes=Cluster(client)
    ), last


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=8, metavar="N", help="values of each parameter"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes of the cluster"
    )
    parser.add_argument(
        "--monitor", action="store_true", help="show the run while it goes on"
    )
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write the timeline of the run, as SVG",
    )
    options = parser.parse_args()
    trace = Trace()
    with (
        LocalCluster(
            n_workers=options.workers, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        sweep, last = scenario(client, options.size)
        sweep.run(
            instruments=[trace, Monitor()] if options.monitor else [trace], check=True
        )
        damping, stiffness, swing = last.result()
    print(
        f"best of {options.size**2}: damping {damping:.3g}, stiffness {stiffness:.3g}; it overshoots by {swing:.2g}"
    )
    if options.timeline is not None:
        save(trace, options.timeline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
