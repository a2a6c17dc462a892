"""Helpers of the tests of PyExPool's names: jobs that record their callbacks, and programs that get signals."""

import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from trioflow.compat.pyexpool import ExecPool, Job, Task
from ...jobs.posix.process_trees import until_there
from ...pythons import Python


class Notes(list[tuple[str, str]]):
    """A record of which callback was called for which job or task, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def on(self, what: str) -> Any:
        def call(owner: Job | Task) -> None:
            self.threads.add(threading.current_thread())
            self.append((what, owner.name))

        return call

    def callbacks(self) -> dict[str, Any]:
        return {
            "onstart": self.on("start"),
            "ondone": self.on("done"),
            "onfinish": self.on("finish"),
        }

    def job(self, name: str, line: str | None = "exit 0", **options: Any) -> Job:
        """Return a job that records all of its callbacks; it runs a shell command, or nothing for None."""
        args = None if line is None else ("sh", "-c", line)
        return Job(name, args=args, **{**self.callbacks(), **options})

    def task(self, name: str, **options: Any) -> Task:
        return Task(name, **{**self.callbacks(), **options})

    def of(self, name: str) -> list[str]:
        return [what for what, whose in self if whose == name]


def executed(*jobs: Job, workers: int = 1) -> ExecPool:
    """Execute jobs in a new pool, which is returned when all have ended."""
    pool = ExecPool(workers)
    for job in jobs:
        pool.execute(job)
    assert pool.join() is True
    return pool


# ---- programs of their own

IMPORTS = """
import atexit, os, signal, subprocess, sys, threading, time
from multiprocessing import cpu_count
from trioflow.compat.pyexpool import ExecPool, Job, Task
"""


def program(
    code: str,
    path: Path,
    *sends: signal.Signals,
    arguments: Sequence[str] = (),
    seconds: float = 30,
) -> tuple[int, str]:
    """Run a program that creates a file when it is busy, then send it signals; return its code and output."""
    process = Python(
        ["-c", IMPORTS + code, str(path / "started"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=path,
    )
    if sends:
        until_there(path / "started", path / "started.busy")
    for number in sends:
        process.send_signal(number)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output
