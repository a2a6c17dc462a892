"""What a journal costs: python -m benchmarks.journal [--workflows DIRECTORY].

Runs of 10,000 no-op jobs with small results, with and without a journal, in turns; a restored run of 100,000 jobs; the
bytes that a job takes in the file. With a directory of recorded workflows, each is killed at a random instant and
resumed. Each figure is printed with the best and the median of its rounds, in CPU time and on the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import os
import platform
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from trioflow import Job, Scheduler, StopReason

ROUNDS: Final = 7
FEW: Final = 10_000
MANY: Final = 100_000
SPEED: Final = 1_000.0
"""Recorded seconds of a workflow in one second: most then take a second."""


async def number(value: int) -> int:
    return value


def scenario(jobs: int) -> Scheduler:
    return Scheduler(*[Job(number, one, label=f"job {one}") for one in range(jobs)])


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of CPU time and of the clock that a call takes."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    assert call()
    return time.process_time() - cpu, time.perf_counter() - wall


def show(what: str, samples: list[tuple[float, float]], unit: float, name: str) -> None:
    cpu, wall = ([sample[place] / unit for sample in samples] for place in (0, 1))
    print(
        f"{what:48}{min(cpu):8.2f} {statistics.median(cpu):8.2f} CPU  {min(wall):8.2f} {statistics.median(wall):8.2f} "
        f"clock  {name}, best and median of {len(samples)}"
    )


def cost_of_a_job(directory: Path, backend: Any) -> None:
    """Without and with a journal, in turns; the difference is what the journal costs."""
    plain: list[tuple[float, float]] = []
    kept: list[tuple[float, float]] = []
    file = directory / f"{backend}.db"
    for _ in range(ROUNDS):
        without, with_journal = scenario(FEW), scenario(FEW)
        plain.append(timed(lambda s=without: s.run(backend=backend)))
        file.unlink(missing_ok=True)
        kept.append(timed(lambda s=with_journal: s.run(backend=backend, journal=file)))
    show(f"{backend}: a no-op job without a journal", plain, FEW / 1e6, "µs")
    show(f"{backend}: a job with a journal", kept, FEW / 1e6, "µs")
    cpu, wall = (min(one[place] for one in kept) - min(one[place] for one in plain) for place in (0, 1))
    print(f"{backend + ': what a journal costs':48}{cpu / FEW * 1e6:8.2f} CPU {wall / FEW * 1e6:17.2f} clock  µs")
    print(f"{backend}: bytes for each job{'':27}{file.stat().st_size / FEW:8.0f}")


def restored_run(directory: Path, backend: Any) -> None:
    file = directory / f"{backend} many.db"
    scenario(MANY).run(backend=backend, journal=file)
    samples: list[tuple[float, float]] = []
    for _ in range(3):
        again = scenario(MANY)
        samples.append(timed(lambda s=again: s.run(backend=backend, journal=file)))
        assert all(job.restored for job in again)
    show(f"{backend}: a restored run of {MANY:,} jobs", samples, 1, "s")


def example() -> ModuleType:
    """Return the example that runs recorded workflows, as a module."""
    path = Path(__file__).parents[1] / "examples" / "wfcommons.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resumed_workflows(directory: Path, workflows: Path) -> None:
    """Kill each recorded workflow at a random instant, and resume it."""
    module = example()
    done = resumed = 0
    for path in sorted(workflows.glob("*.json")):
        file = directory / f"{path.stem}.db"
        try:
            total = len(module.scenario(path, SPEED))
        except ValueError as error:
            print(f"not a workflow: {error}")
            continue
        whole = module.scenario(path, SPEED)
        _, took = timed(lambda whole=whole: whole.run(journal=directory / "whole.db"))
        (directory / "whole.db").unlink()
        again = module.scenario(path, SPEED)
        ready, begins = os.pipe()
        child = os.fork()
        if not child:
            scheduler = module.scenario(path, SPEED)
            os.write(begins, b"x")
            scheduler.run(journal=file)
            os._exit(0)
        os.read(ready, 1)
        time.sleep(random.uniform(0, took))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(begins)
        committed = committed_in(file) if file.exists() else 0
        again.run(journal=file)
        restored = sum(job.restored for job in again.iterate_jobs())
        assert restored == committed
        assert again.stop_reason is StopReason.COMPLETED
        done += 1
        resumed += 0 < restored < total
        print(f"{path.stem:60}{restored:6} of {total:6} restored")
    print(f"{done} workflows killed and resumed, {resumed} of them in their middle")


def committed_in(file: Path) -> int:
    """Return how many jobs are in a journal; 0 if the run was killed before there was a table."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM jobs").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflows", type=Path, help="a directory of recorded workflows, as examples/wfcommons.py")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, load {load:.1f} at the start")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if options.workflows is not None:
            resumed_workflows(directory, options.workflows)
            return
        for backend in ("trio", "asyncio"):
            cost_of_a_job(directory, backend)
            restored_run(directory, backend)


if __name__ == "__main__":
    main()
