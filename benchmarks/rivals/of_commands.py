"""Ways to run many commands with a window: each runs one command many times, and waits for all of them.

Where output is to be captured, a rival keeps it in the way it does best: in memory, or in a file for each command.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trioflow import CommandJob, Scheduler

from . import OURS

BATCH: Final = f"{OURS} batch"

Way = Callable[[Sequence[str], int, int, bool], None]
"""Takes a command, how often to run it, the window, and whether to capture its output."""


@dataclass(frozen=True, slots=True)
class CommandRival:
    """One way to run commands."""

    name: str
    backend: str
    run: Way
    captures: bool = True
    share: float = 1.0  # of the number of commands; a slow rival runs fewer
    needs: str = ""  # a command or a module that may not be installed

    @property
    def is_installed(self) -> bool:
        return (
            not self.needs
            or shutil.which(self.needs) is not None
            or importlib.util.find_spec(self.needs) is not None
        )


def with_trioflow(backend: str) -> Way:
    """A scheduler of command jobs."""

    def run(command: Sequence[str], number: int, window: int, captures: bool) -> None:
        stdout = subprocess.PIPE if captures else None
        scheduler = Scheduler(
            *(CommandJob(command, stdout=stdout) for _ in range(number)),
            jobs_window=window,
        )
        if not scheduler.run(backend=backend, check=True):
            raise RuntimeError("a command has failed")

    return run


def with_xargs(
    command: Sequence[str], number: int, window: int, captures: bool
) -> None:
    """Xargs -n1 -P, as everybody writes it. It passes a number as an argument, which gives GNU's `true` more to do."""
    if captures:
        with_xargs_replacing(command, number, window, captures)
    else:
        lines = "".join(f"{one}\n" for one in range(number))
        subprocess.run(
            ["xargs", f"-P{window}", "-n1", *command],
            input=lines,
            text=True,
            check=True,
        )


def with_xargs_replacing(
    command: Sequence[str], number: int, window: int, captures: bool
) -> None:
    """Xargs -I -P, which runs just the command. To capture, a shell redirects to a file and becomes the command."""
    lines = "".join(f"{one}\n" for one in range(number))
    with tempfile.TemporaryDirectory() as directory:
        shell = ["sh", "-c", f'exec "$@" > {directory}/$0', "{}"] if captures else []
        subprocess.run(
            ["xargs", f"-P{window}", "-I{}", *shell, *command],
            input=lines,
            text=True,
            check=True,
        )


def by_hand(command: Sequence[str], number: int, window: int, captures: bool) -> None:
    """asyncio.create_subprocess_exec, with a semaphore."""
    stdout = subprocess.PIPE if captures else None

    async def one(semaphore: asyncio.Semaphore) -> tuple[int | None, Any]:
        async with semaphore:
            process = await asyncio.create_subprocess_exec(*command, stdout=stdout)
            output, _ = await process.communicate()
            return process.returncode, output

    async def main() -> None:
        semaphore = asyncio.Semaphore(window)
        ended = await asyncio.gather(*(one(semaphore) for _ in range(number)))
        if any(code for code, _ in ended):
            raise RuntimeError("a command has failed")

    asyncio.run(main())


def with_parallel(
    command: Sequence[str], number: int, window: int, captures: bool
) -> None:
    """GNU parallel, which always captures."""
    lines = "".join(f"{one}\n" for one in range(number))
    subprocess.run(
        ["parallel", "--will-cite", f"-j{window}", "-N0", *command],
        input=lines,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def with_batch(
    command: Sequence[str], number: int, window: int, captures: bool
) -> None:
    """The command line of trioflow, which always captures, with its start and its end included."""
    lines = "".join(f"{one}\n" for one in range(number))
    without_argument = "{2}"  # there is no second one
    subprocess.run(
        [
            sys.executable,
            "-m",
            "trioflow",
            "batch",
            f"-j{window}",
            *command,
            without_argument,
        ],
        input=lines,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def with_pyexpool(
    command: Sequence[str], number: int, window: int, captures: bool
) -> None:
    """PyExPool 3."""
    from mpepool import ExecPool, Job  # type: ignore[import-not-found]

    pool = ExecPool(window)
    for one in range(number):
        pool.execute(Job(str(one), args=tuple(command)))
    if not pool.join():
        raise RuntimeError("a command has failed")


RIVALS: Final = (
    CommandRival(OURS, "trio", with_trioflow("trio")),
    CommandRival(OURS, "asyncio", with_trioflow("asyncio")),
    CommandRival(BATCH, "", with_batch, needs="click"),
    CommandRival("xargs", "", with_xargs, needs="xargs"),
    CommandRival("xargs -I", "", with_xargs_replacing, captures=False, needs="xargs"),
    CommandRival("create_subprocess_exec", "", by_hand),
    CommandRival("GNU parallel", "", with_parallel, share=0.1, needs="parallel"),
    CommandRival(
        "PyExPool", "", with_pyexpool, captures=False, share=0.003, needs="mpepool"
    ),
)


def installed() -> list[CommandRival]:
    """Return the rivals that can be measured here."""
    return [rival for rival in RIVALS if rival.is_installed]
