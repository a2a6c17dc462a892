"""The benchmark of makespans reads what it should, and the best makespans of its invented set are right."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import drawn, psplib, stg
from .__main__ import INVENTED
from .exact import least_makespan

ROOT = Path(__file__).resolve().parents[2]
CASES = [case for kind in (psplib, stg) for one in kind.sets(INVENTED) for case in one.cases]


def command(*arguments: object) -> str:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.makespans", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_best_of_the_invented_set_are_the_least() -> None:
    """An exhaustive search finds the makespans that are in the tables, and no run is shorter."""
    assert len(CASES) == 20
    assert [least_makespan(case.scheduler, case.window) for case in CASES] == [case.best for case in CASES]
    assert all(case.ratio(policy) >= 1 for case in CASES for policy in ("fifo", "critical-path"))


def test_a_project_is_read() -> None:
    """Durations, needs, requirements and the pool are those of the file."""
    project = psplib.scenario(INVENTED / "projects" / "j101_1.sm")
    start, _, second, *_, end = project
    assert project.pool is not None
    assert project.pool.total == {"R1": 8, "R2": 9, "R3": 10}
    assert (second.expected_duration, second.needs) == (5, {"R1": 8, "R3": 10})
    assert [job.label for job in project if start in job.required] == ["2", "3", "4"]
    assert [job.label for job in end.required] == ["9", "10", "11"]


def test_a_graph_is_read() -> None:
    """Durations and requirements are those of the file, and notes are passed over."""
    graph = stg.scenario(INVENTED / "g9" / "invented0003.stg")
    lines = (INVENTED / "g9" / "invented0003.stg").read_text().splitlines()[1:-1]
    for job, line in zip(graph, lines, strict=True):
        number, seconds, count, *required = line.split()
        assert (job.label, job.expected_duration) == (number, float(seconds))
        assert [one.label for one in job.required] == required
        assert len(required) == int(count)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [psplib, stg])
def test_what_is_drawn_is_read_back(kind: Any, seed: int, tmp_path: Path) -> None:
    """Files have what was drawn; projects have as many arcs as they should, no job more than three."""
    chance = random.Random(seed)
    if kind is psplib:
        one = drawn.project(20, 1.8, 0.5, 0.2, chance)
        drawn.write_project(tmp_path / "one", one)
        assert sum(map(len, one.required)) == round(1.8 * 22)
        assert max(map(len, one.required)) == 3
        assert all(sum(job in some for some in one.required) <= 3 for job in range(22))
    else:
        one = drawn.graph(20, chance)
        drawn.write_graph(tmp_path / "one", one)
    scheduler = kind.scenario(tmp_path / "one")
    jobs = list(scheduler)
    assert [job.expected_duration for job in jobs] == one.seconds
    assert [sorted(jobs.index(other) for other in job.required) for job in jobs] == one.required
    if kind is psplib:
        assert [[job.needs.get(f"R{place}", 0) for place in range(1, 5)] for job in jobs] == one.needs
        assert [*scheduler.pool.total.values()] == one.capacity


@pytest.mark.parametrize("kind", [psplib, stg])
def test_a_foreign_file_is_refused(kind: Any, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("5\n1 2 3\n")
    with pytest.raises(ValueError, match="foreign is no"):
        kind.scenario(foreign)


def test_the_command_measures_the_invented_set() -> None:
    lines = command().splitlines()
    assert [line for line in lines if ":" in line][1:] == [
        "projects of j10: 8 scenarios",
        "task graphs of g9: 12 scenarios",
    ]
    assert sum(line.startswith("  critical-path  1.") for line in lines) == 2


def test_the_command_runs_workflows_for_real(tmp_path: Path) -> None:
    """Each takes its simulated time or longer."""
    tasks = [{"name": str(number), "runtime_s": number, "needs": [0] if number else []} for number in range(4)]
    (tmp_path / "some.json").write_text(json.dumps({"tasks": tasks}))
    first, last = command(tmp_path, "--real", "0.05", "--window", "2").splitlines()
    assert first.endswith("  some")
    assert float(first.split()[0]) >= 1
    assert last.startswith("1 workflows of 0.05 s at once, critical-path, window 2: ")
