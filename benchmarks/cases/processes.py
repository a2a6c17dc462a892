"""What it costs to have functions called in worker processes: the start of them all, one call each, and their end.

Each measurement is a program of its own, whose main module imports trioflow; see `in_processes`. The CPU time of all
processes counts, that of servers too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from ..in_processes import WAYS
from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import Plan
from .importing import ROOT


def processes(plan: Plan) -> Iterator[Contest]:
    """Start some workers on each backend."""
    for backend in plan.loops:
        for workers in plan.workers:
            setting = Setting(backend, "", "a call in each", workers)
            run = partial(attempt, setting)
            yield Contest(
                "processes",
                [Contestant(name, setting, partial(run, name), partial(run, name)) for name in WAYS],
                plan.few_rounds,
            )


def attempt(setting: Setting, name: str) -> Sample:
    """Run the program, and divide the time by the number of workers."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for users; each worker would compile trioflow
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.in_processes", name, setting.backend, str(setting.size)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return {"worker": float(done.stdout) / setting.size * 1e3}
