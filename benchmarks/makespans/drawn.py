"""Draw sets in the way in which PSPLIB and the Standard Task Graph Set were drawn, and find their best makespans.

    pip install ortools
    python -m benchmarks.makespans.drawn FOLDER

This is for those who cannot fetch the original sets. The projects follow ProGen (Kolisch, Sprecher and Drexl 1995):
from 1.5 to 2.1 arcs for each job, up to 3 in and 3 out; each job needs from a quarter of the resources up to all of
them; and there is as much of them as the largest job needs, and a part of what a run without limits would use
besides. The task graphs have tasks of 1 to 20 units, in layers or without, by a probability or by a number of
predecessors. OR-Tools' CP-SAT looks for the best makespans, with the same effort on every machine. This takes about a
quarter of an hour.
"""

from __future__ import annotations

import importlib
import itertools
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 3
"""Most arcs into a job, and out of it; also the number of jobs at the start and at the end."""
RESOURCES = 4
EFFORT = 2.0
"""Of the search for one makespan, in CP-SAT's deterministic time: some seconds."""
SETS = {
    "j30": (30, (0.2, 0.5, 0.7, 1.0), 5),
    "j60": (60, (0.2, 0.5, 0.7, 1.0), 1),
    "j120": (120, (0.1, 0.2, 0.3, 0.4, 0.5), 1),
}
"""By name: jobs, how scarce the resources are, and projects for each combination of parameters."""
GRAPHS = {"rand50": (50, 40), "rand100": (100, 25)}
"""By name: tasks, and graphs."""
PROCESSORS = (2, 4, 8, 16)


@dataclass
class Project:
    """Jobs with whole seconds, the jobs that each requires, all with lower numbers, and what they need of how much."""

    seconds: list[int]
    required: list[list[int]]
    needs: list[list[int]]
    capacity: list[int]

    def starts(self) -> list[int]:
        """Return the earliest starts, without any limits."""
        found: list[int] = []
        for required in self.required:
            found.append(max((found[one] + self.seconds[one] for one in required), default=0))
        return found

    def lower_bound(self) -> int:
        """Return what no order can beat."""
        path = max(start + seconds for start, seconds in zip(self.starts(), self.seconds, strict=True))
        work = (
            sum(seconds * need[kind] for seconds, need in zip(self.seconds, self.needs, strict=True)) / amount
            for kind, amount in enumerate(self.capacity)
        )
        return max(path, *(math.ceil(one) for one in work))


# ---------------------------------------------------------------- drawing


def arcs(jobs: int, per_job: float, chance: random.Random) -> list[list[int]]:
    """Draw which job requires which; the first job is the start of the project, and the last its end."""
    last = jobs + 1
    while True:
        after: list[set[int]] = [set() for _ in range(last + 1)]
        for one in range(1, MOST + 1):
            after[0].add(one)
            after[last - one].add(last)

        def before(job: int, after: list[set[int]] = after) -> int:
            return sum(job in one for one in after)

        try:
            for job in range(MOST + 1, last):  # each gets a predecessor
                after[chance.choice([one for one in range(1, min(job, last - MOST)) if len(after[one]) < MOST])].add(
                    job
                )
            for job in range(1, last - MOST):  # and a successor
                if not after[job]:
                    later = range(max(job, MOST) + 1, last)
                    after[job].add(chance.choice([one for one in later if before(one) < MOST]))
        except IndexError:  # there is nothing to choose from
            continue
        for _ in range(200 * jobs):
            if sum(map(len, after)) >= round(per_job * (jobs + 2)):
                return [[job for job in range(last) if one in after[job]] for one in range(last + 1)]
            job = chance.randrange(1, last - MOST)
            later_job = chance.randrange(max(job, MOST) + 1, last)
            if len(after[job]) < MOST and before(later_job) < MOST and not is_redundant(job, later_job, after):
                after[job].add(later_job)


def is_redundant(job: int, later: int, after: list[set[int]]) -> bool:
    """Return whether an arc would follow from others, or make one of them follow."""
    reached: list[set[int]] = [set() for _ in after]
    for one in reversed(range(len(after))):
        for successor in after[one]:
            reached[one] |= {successor} | reached[successor]
    ends = {later} | reached[later]
    origins = [one for one in range(len(after)) if one == job or job in reached[one]]
    return later in reached[job] or any(not ends.isdisjoint(after[one]) for one in origins)


def project(jobs: int, per_job: float, needed: float, supply: float, chance: random.Random) -> Project:
    """Draw a project: how many arcs a job has, which part of the resources it needs, and how much of these there is."""
    drawn = Project(
        [0, *(chance.randint(1, 10) for _ in range(jobs)), 0],
        arcs(jobs, per_job, chance),
        [[0] * RESOURCES for _ in range(jobs + 2)],
        [],
    )
    pairs = [(job, kind) for job in range(1, jobs + 1) for kind in range(RESOURCES)]
    chosen = {(job, chance.randrange(RESOURCES)) for job in range(1, jobs + 1)}
    rest = [pair for pair in pairs if pair not in chosen]
    chosen.update(chance.sample(rest, round(needed * len(pairs)) - len(chosen)))
    for job, kind in sorted(chosen):
        drawn.needs[job][kind] = chance.randint(1, 10)
    starts = drawn.starts()
    for kind in range(RESOURCES):
        least = max(need[kind] for need in drawn.needs)
        used = (
            sum(
                need[kind]
                for need, start, seconds in zip(drawn.needs, starts, drawn.seconds, strict=True)
                if start <= moment < start + seconds
            )
            for moment in range(starts[-1])
        )
        drawn.capacity.append(max(1, round(least + supply * (max(least, *used) - least))))
    return drawn


def graph(tasks: int, chance: random.Random) -> Project:
    """Draw a task graph; its first and last task stand for the start and the end."""
    layers = chance.choice([0, 5, 10, 20])
    layer = sorted(chance.randrange(layers) for _ in range(tasks)) if layers else list(range(tasks))
    share, number = chance.choice([0.05, 0.1, 0.2]), chance.choice([1, 3, 5])
    by_share = chance.random() < 0.5
    required: list[list[int]] = [[]]
    for task in range(tasks):
        earlier = [one + 1 for one in range(task) if layer[one] < layer[task]]
        if by_share:
            some = [one for one in earlier if chance.random() < share * 50 / tasks]
        else:
            some = sorted(chance.sample(earlier, min(len(earlier), chance.randint(1, number))))
        required.append(some or [0])
    used = {one for some in required for one in some}
    required.append([task for task in range(1, tasks + 1) if task not in used])
    longest = chance.choice([10, 20])
    seconds = [0, *(chance.randint(1, longest) for _ in range(tasks)), 0]
    return Project(seconds, required, [[1 if one else 0] for one in seconds], [1])


# ---------------------------------------------------------------- the best makespans


def best_makespan(one: Project) -> tuple[int, bool]:
    """Return the least makespan that was found, and whether it is proved to be the least."""
    cp_model: Any = importlib.import_module("ortools.sat.python.cp_model")
    model = cp_model.CpModel()
    starts = [model.NewIntVar(0, sum(one.seconds), "") for _ in one.seconds]
    for job, required in enumerate(one.required):
        for other in required:
            model.Add(starts[job] >= starts[other] + one.seconds[other])
    for kind, amount in enumerate(one.capacity):
        users = [job for job, need in enumerate(one.needs) if need[kind]]
        intervals = [model.NewFixedSizeIntervalVar(starts[job], one.seconds[job], "") for job in users]
        model.AddCumulative(intervals, [one.needs[job][kind] for job in users], amount)
    model.Add(starts[-1] >= one.lower_bound())
    model.Minimize(starts[-1])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = EFFORT
    status = solver.Solve(model)
    return round(solver.ObjectiveValue()), status == cp_model.OPTIMAL


# ---------------------------------------------------------------- files


def write_project(path: Path, one: Project) -> None:
    """Write a project as PSPLIB does."""
    stars = "*" * 72
    after = [
        [job for job, required in enumerate(one.required) if other in required] for other in range(len(one.required))
    ]
    kinds = "  ".join(f"R {kind + 1}" for kind in range(len(one.capacity)))
    lines = [
        stars,
        f"jobs (incl. supersource/sink ):  {len(one.seconds)}",
        stars,
        "PRECEDENCE RELATIONS:",
        "jobnr.    #modes  #successors   successors",
        *(
            f"{job + 1:4} {1:8} {len(some):10}    " + "".join(f"{other + 1:5}" for other in some)
            for job, some in enumerate(after)
        ),
        stars,
        "REQUESTS/DURATIONS:",
        f"jobnr. mode duration  {kinds}",
        "-" * 72,
        *(
            f"{job + 1:3} {1:6} {seconds:5}    " + "".join(f"{amount:5}" for amount in need)
            for job, (seconds, need) in enumerate(zip(one.seconds, one.needs, strict=True))
        ),
        stars,
        "RESOURCEAVAILABILITIES:",
        f"  {kinds}",
        "".join(f"{amount:5}" for amount in one.capacity),
        stars,
    ]
    path.write_text("\n".join(lines) + "\n")


def write_graph(path: Path, one: Project) -> None:
    """Write a task graph as the Standard Task Graph Set does."""
    rows = [[len(one.seconds) - 2]]
    rows += [
        [task, seconds, len(required), *required]
        for task, (seconds, required) in enumerate(zip(one.seconds, one.required, strict=True))
    ]
    path.write_text("".join("".join(f"{number:11}" for number in row) + "\n" for row in rows))


def main(folder: Path) -> None:
    for name, (jobs, supplies, each) in SETS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        table = [["Par", "Inst", "Makespan", "Proved"]]
        for number, parameters in enumerate(itertools.product((1.5, 1.8, 2.1), (0.25, 0.5, 0.75, 1.0), supplies), 1):
            for instance in range(1, each + 1):
                drawn = project(jobs, *parameters, random.Random(f"{name} {number} {instance}"))
                write_project(folder / name / f"{name}{number}_{instance}.sm", drawn)
                table.append([str(number), str(instance), *map(str, best_makespan(drawn))])
        (folder / name / f"{name}opt.sm").write_text("\n".join(map("\t".join, table)) + "\n")
        print(f"{name}: {len(table) - 1} projects, {sum(row[-1] == 'True' for row in table)} makespans proved")
    for name, (tasks, number) in GRAPHS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        known: list[str] = []
        for place in range(number):
            drawn = graph(tasks, random.Random(f"{name} {place}"))
            write_graph(folder / name / f"rand{place:04}.stg", drawn)
            for processors in PROCESSORS:
                drawn.capacity = [processors]
                makespan, proved = best_makespan(drawn)
                known += [f"rand{place:04} {processors} {makespan}"] * proved
        (folder / name / "optimal.txt").write_text("\n".join(known) + "\n")
        print(f"{name}: {number} graphs, {len(known)} of {number * len(PROCESSORS)} makespans proved")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
