"""Compress a few hundred real files with the system's gzip and xz, and prove that they can be restored.

    trioflow run examples/compress.py --set files=50
    python examples/compress.py
    python examples/compress.py --files 50 --window 4 --timeout 2 --output /tmp/packed

For each file of the standard library, with as many commands at work as the machine has cores:

    gzip -9c file > packed ──► gzip -dc packed ──► cmp - file
                 (order: only after a success)  (its output is the input of cmp)

A command that takes longer than its timeout is ended, with all that it has started, and its file is reported. The
others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from trioflow import CommandJob, JobState, Scheduler

LIBRARY = Path(sysconfig.get_path("stdlib"))
TOOLS = {"gzip": ".gz", "xz": ".xz"}
OUTPUT = Path(__file__).parent / "output" / "compress"


@dataclass
class Packing:
    """One file, and the three commands that pack it and prove the pack."""

    source: Path
    target: Path
    pack: CommandJob
    prove: CommandJob


def packing(source: Path, tool: str, directory: Path, timeout: float) -> Packing:
    name = "-".join(source.relative_to(LIBRARY).parts)
    target = directory / (name + TOOLS[tool])
    target.unlink(
        missing_ok=True
    )  # a command appends to the file that its output goes to
    pack = CommandJob(
        [tool, "-9c", source], stdout=target, label=f"{tool} {name}", timeout=timeout
    )
    unpack = CommandJob(
        [tool, "-dc", target],
        stdout=subprocess.PIPE,
        label=f"un{tool} {name}",
        timeout=timeout,
        required=pack,
        keep_result=False,  # only cmp needs it
    )
    prove = CommandJob(
        ["cmp", "-", source],
        stdin=unpack,
        stderr=subprocess.PIPE,
        label=f"cmp {name}",
        timeout=timeout,
    )
    return Packing(source, target, pack, prove)


def chosen(number: int) -> list[Path]:
    """Return the modules, the largest first, so that at the end nothing has to wait for a large one."""
    files = [
        path
        for path in LIBRARY.rglob("*.py")
        if "site-packages" not in path.parts and path.stat().st_size
    ]
    return sorted(files, key=lambda path: (-path.stat().st_size, path))[:number]


def scenario(
    files: int = 300, timeout: float = 30.0, output: str = str(OUTPUT)
) -> Scheduler:
    """Return what the command `trioflow` runs, for so many files, with a timeout for each command and a directory."""
    return packing_all(packings_of(files, timeout, Path(output)))


def packings_of(files: int, timeout: float, output: Path) -> list[Packing]:
    tools = cycle(TOOLS)
    return [packing(path, next(tools), output, timeout) for path in chosen(files)]


def packing_all(
    packings: list[Packing], window: int | None = os.cpu_count()
) -> Scheduler:
    scheduler = Scheduler(
        *(one.prove for one in packings), label="compress", jobs_window=window
    )
    scheduler.update(one.pack for one in packings)
    return scheduler


def report(packings: list[Packing], scheduler: Scheduler, seconds: float) -> None:
    states = Counter(job.state.value for job in scheduler)
    proved = [one for one in packings if one.prove.state is JobState.SUCCEEDED]
    before = sum(one.source.stat().st_size for one in proved)
    after = sum(one.target.stat().st_size for one in proved)
    results = [
        job.last_result
        for job in scheduler
        if isinstance(job, CommandJob) and job.last_result
    ]
    cpu = sum(result.user_time + result.system_time for result in results)
    print(
        f"{len(proved)} of {len(packings)} files packed and proved: {before:,} bytes in {after:,}"
    )
    print(
        f"{len(scheduler)} commands ({', '.join(f'{count} {state}' for state, count in states.items())})"
    )
    print(f"{cpu:.1f} s of CPU time in {seconds:.1f} s")
    for job in scheduler:
        if job.state is JobState.FAILED:
            print(f"{job.label}: {job.raised_exception()}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compress files of the standard library, and prove it."
    )
    parser.add_argument(
        "--files", type=int, default=300, help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--window",
        type=int,
        default=os.cpu_count(),
        help="commands at once (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        help="seconds for each command (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()

    packings = packings_of(options.files, options.timeout, options.output)
    scheduler = packing_all(packings, options.window)
    start = time.perf_counter()
    scheduler.run()
    report(packings, scheduler, time.perf_counter() - start)
    return int(any(one.prove.state is not JobState.SUCCEEDED for one in packings))


if __name__ == "__main__":
    sys.exit(main())
