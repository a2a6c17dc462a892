"""PSPLIB: projects whose jobs need renewable resources (Kolisch and Sprecher 1996), in single mode.

A project is a file such as `j301_1.sm`. Its best known makespan is in a table: `j30opt.sm`, `j60hrs.sm` and so on. A
line of it has the two numbers of the project's name, and the makespan. The published means are those of list scheduling
on all projects of a set, with no limit to how many jobs may pass one that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import anyio

from trioflow import Job, Pool, Scheduler

from .cases import Case, Set

PUBLISHED = {
    "j30": {"fifo": (1.074,), "critical-path": (1.044,)},
    "j60": {"fifo": (1.090,), "critical-path": (1.052,)},
    "j120": {"fifo": (1.196,), "critical-path": (1.103,)},
}
UNLIMITED = 1_000_000


def sets(folder: Path) -> Iterator[Set]:
    """Yield the sets of which a table is anywhere in a folder."""
    projects = {path.name.lower(): path for path in folder.rglob("*.[sS][mM]")}
    for name, table in sorted(projects.items()):
        named = re.fullmatch(r"(j\d+)(opt|hrs)\w*\.sm", name)
        if named is not None:
            cases = [
                Case(scenario(projects[f"{named[1]}{key}.sm"]), None, best)
                for key, best in best_known(table).items()
                if f"{named[1]}{key}.sm" in projects
            ]
            if cases:
                yield Set(f"projects of {named[1]}", cases, PUBLISHED.get(named[1], {}))


def best_known(table: Path) -> dict[str, int]:
    """Return the makespans of a table, by the numbers in the names of the projects: `{"1_1": 43, ...}`."""
    lines = (re.match(r"\s*(\d+)\s+(\d+)\s+(\d+)", line) for line in table.read_text(errors="replace").splitlines())
    return {f"{found[1]}_{found[2]}": int(found[3]) for found in lines if found}


def scenario(path: Path) -> Scheduler:
    """Return a project as a scheduler with a pool; its jobs are never run.

    Raises:
        ValueError: the file is not a project in single mode.

    """
    relations, requests, available = (
        _numbers(path, title) for title in ("PRECEDENCE RELATIONS", "REQUESTS/DURATIONS", "RESOURCEAVAILABILITIES")
    )
    if len(available) != 1 or not relations or [line[0] for line in relations] != [line[0] for line in requests]:
        raise ValueError(f"{path} is not a project in single mode, as PSPLIB writes them")
    jobs = {
        number: Job(
            anyio.sleep,
            0,
            label=str(number),
            expected_duration=duration,
            needs={f"R{kind}": amount for kind, amount in enumerate(amounts, 1) if amount},
        )
        for number, _mode, duration, *amounts in requests
    }
    for number, _modes, _count, *successors in relations:
        for successor in successors:
            jobs[successor].requires(jobs[number])
    pool = Pool(**{f"R{kind}": amount for kind, amount in enumerate(available[0], 1)})
    return Scheduler(*jobs.values(), pool=pool, backfill=UNLIMITED)


def _numbers(path: Path, title: str) -> list[list[int]]:
    """Return the lines of numbers between a title and the next line of stars."""
    _, _, rest = path.read_text(errors="replace").partition(f"{title}:")
    lines = (line.split() for line in rest.split("***")[0].splitlines())
    return [[int(word) for word in words] for words in lines if words and all(word.isdecimal() for word in words)]
