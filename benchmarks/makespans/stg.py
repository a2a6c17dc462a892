"""The Standard Task Graph Set: task graphs for a number of processors (Tobita and Kasahara 2002).

A graph is a file such as `rand0000.stg`. Each line is a task: its number, its time, how many tasks it requires, and
which; the first and the last task stand for the start and the end, and take no time. Lines with `#` are notes.

Known optima are read from `optimal.txt` beside the graphs. Each line has the name of a graph, a number of processors,
and the makespan. A graph that is not in it is scheduled on 2, 4, 8 and 16 processors. Its makespan is compared with its
lower bound, so that the ratio to the optimum is no larger than what is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import anyio

from trioflow import Job, Scheduler

from .cases import Case, Set

PROCESSORS = (2, 4, 8, 16)
PUBLISHED = {"critical-path": (1.003,)}
"""Where the optimum is known."""


def sets(folder: Path) -> Iterator[Set]:
    """Yield a set for each folder with graphs, at any depth."""
    for place in sorted({path.parent for path in folder.rglob("*.stg")}):
        table = place / "optimal.txt"
        optima = optimal(table) if table.exists() else {}
        cases: list[Case] = []
        for path in sorted(place.glob("*.stg")):
            graph = scenario(path)
            known = optima.get(path.stem) or dict.fromkeys(PROCESSORS)
            cases += [Case(graph, processors, best) for processors, best in known.items()]
        yield Set(f"task graphs of {place.name}", cases, PUBLISHED)


def optimal(table: Path) -> dict[str, dict[int, int]]:
    """Return the makespans of a table, by graph and number of processors."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for line in table.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, processors, makespan = line.split()
            found[name][int(processors)] = int(makespan)
    return found


def scenario(path: Path) -> Scheduler:
    """Return a task graph as a scheduler; its jobs are never run.

    Raises:
        ValueError: the file is not a task graph without communication.

    """
    numbers = [int(word) for line in path.read_text().splitlines() for word in line.partition("#")[0].split()]
    jobs: list[Job[None]] = []
    try:
        place = 1
        for _ in range(numbers[0] + 2):
            _number, seconds, count = numbers[place : place + 3]
            job = Job(anyio.sleep, 0, label=str(len(jobs)), expected_duration=seconds)
            job.requires([jobs[index] for index in numbers[place + 3 : place + 3 + count]])
            jobs.append(job)
            place += 3 + count
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} is not a task graph of the Standard Task Graph Set, without communication") from error
    return Scheduler(*jobs)
