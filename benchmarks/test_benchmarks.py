"""The benchmark suite works; these tests do not judge what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as suite
from benchmarks import (
    asynciojobs_names,
    figures,
    graphs,
    measuring,
    plans,
    rivals,
    verification,
)
from benchmarks import report as reporting
from benchmarks.beside import __main__ as beside
from benchmarks.bodies import Body
from benchmarks.cases import groups, nodes
from benchmarks.elapsed import __main__ as elapsed
from benchmarks.elapsed import report as elapsed_report
from benchmarks.elapsed import ways, workflows
from benchmarks.report import TINY
from benchmarks.rivals import of_nodes
from tests.jobs.ssh.servers import have_sshd

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = [rival for rival in rivals.all_rivals() if rival.is_installed]
BY_HAND = [rival for rival in INSTALLED if rival.needs is None]


@pytest.mark.timeout(
    900
)  # half a minute to a minute, on a machine that does nothing else
def test_the_tiny_suite_writes_its_report(tmp_path: Path) -> None:
    """One call measures every case on every backend, and leaves a table and a JSON file."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        done.stdout + done.stderr
    )  # which says what cannot be measured
    assert done.stderr == ""
    assert done.stdout.startswith(TINY)

    report = json.loads((tmp_path / "report.json").read_text())
    assert {one["case"] for one in report["measurements"]} == set(plans.CASES) - {
        plans.ELAPSED,
        plans.NODES,
    }
    assert {one["setting"]["backend"] for one in report["measurements"]} == {
        "trio",
        "asyncio",
        "threads",
    } | {""}
    entered = {
        (one["contestant"], one["setting"]["backend"]) for one in report["measurements"]
    }
    assert entered >= {
        (rival.name, rival.backend) for rival in INSTALLED if not rival.only_shapes
    }
    for one in report["measurements"]:
        assert one["samples"]
        assert one["best"] == min(one["samples"])
        assert one["metric"] in report["metrics"]
    assert {
        "processor",
        "Python",
        "trio",
        "anyio",
        "plan",
        "load before and after",
    } <= set(report["facts"])
    outcomes = json.loads((tmp_path / "elapsed.json").read_text())
    assert {one["way"] for one in outcomes} == {way.label for way in ways.installed()}
    assert all(
        one["value"] > 0.999
        for one in outcomes
        if one["metric"].startswith("simulated")
    )  # the lower bound
    missing = {
        one["row"]
        for one in report["figures"]
        if one["value"] is None and one["group"] == "others"
    }
    assert missing == {
        "all sleep 1 s at once, 200 MB heap"
    }  # a large heap takes seconds to make

    page = (tmp_path / "report.md").read_text()
    assert TINY in page
    assert "| window 16, checkpoint, asyncio |" in page
    assert all(way.label in page for way in ways.installed())


def test_each_limit_is_that_of_a_figure() -> None:
    """A renamed row would no longer be checked; the plan of CI has all that CI checks."""
    names = {
        (figure.row, figure.column) for figure in figures.figures(figures.Results([]))
    }
    assert set(figures.LIMITS) <= names
    assert len(figures.LIMITS) == 16


def test_a_limit_names_the_case_that_decides_its_figure() -> None:
    """The check measures this case again."""

    class Measured(figures.Results):
        """Every metric of one case alone, for two sizes."""

        def __init__(self, case: str) -> None:
            super().__init__([])
            self.case = case

        def find(
            self, case: str, metric: str, name: str | None = None, **setting: Any
        ) -> list[measuring.Measurement]:
            names = {rival.name for rival in rivals.all_rivals()}
            names |= {*groups.BY_HAND.values(), figures.PATH, figures.BY_LEVELS}
            return [
                measuring.Measurement(
                    case, one, measuring.Setting("trio", size=size), metric, (1.0,)
                )
                for one in names
                for size in (1, 2)
                if case == self.case and name in (None, one)
            ]

    deciding = dict[tuple[str, str], list[str]]()
    for case in plans.CASES:
        for figure in figures.figures(Measured(case)):
            if figure.limit is not None and figure.value is not None:
                deciding.setdefault((figure.row, figure.column), []).append(case)
    assert deciding == {named: [limit.case] for named, limit in figures.LIMITS.items()}


def test_a_ratio_beyond_its_limit_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check measures its case again, and compares medians: one lucky sample of a rival decides nothing."""
    measured = list[tuple[str, ...]]()

    def measure(plan: plans.Plan, report: Any, console: Any) -> Iterator[None]:
        measured.append(plan.cases)
        setting = measuring.Setting("trio", "timeout", "no-op", 10)
        for name, samples in (
            ("trioflow", (4.0 - len(measured),)),
            ("nursery", (2.0, 0.1, 2.0)),
        ):
            report.measurements.append(
                measuring.Measurement("groups", name, setting, "run", samples)
            )
        yield

    monkeypatch.setattr(suite, "measure", measure)
    monkeypatch.setattr(suite, "TRIES", 3)
    for most, code in ((1.0, 0), (0.9, 1)):
        measured.clear()
        limit = figures.Limit("groups", most)
        monkeypatch.setattr(figures, "LIMITS", {("timeout, no-op", "trio"): limit})
        monkeypatch.setattr(reporting, "LIMITS", figures.LIMITS)
        assert suite.main(["--check", "--output", str(tmp_path)]) == code
        assert measured == [plans.CHECK.cases, ("groups",), ("groups",)]


def test_what_is_stopped_or_fails_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Ctrl-C keeps the measurements, a failing rival is named, and rivals' output is not on the screen."""

    def attempt_of(name: str) -> measuring.Sample:
        os.write(1, b"what a rival writes\n")
        if name == "fails":
            raise ValueError("no such rival")
        if name == "is stopped":
            raise KeyboardInterrupt
        return {"run": 1.0}

    def contests(plan: plans.Plan) -> list[measuring.Contest]:
        setting = measuring.Setting("trio", "wide", "no-op", 10)
        return [
            measuring.Contest(
                name,
                [measuring.Contestant("trioflow", setting, partial(attempt_of, name))],
                1,
            )
            for name in ("works", "fails", "is stopped", "never begins")
        ]

    monkeypatch.setattr(suite, "contests", contests)
    assert (
        suite.main(["--quick", "--cases", "running", "--output", str(tmp_path)]) == 130
    )
    shown = capfd.readouterr().out
    assert (
        "fails: trio wide no-op cannot be measured: ValueError('no such rival')"
        in shown
    )
    assert "Stopped" in shown
    assert "what a rival writes" not in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["case"] for one in report["measurements"]] == ["works"]
    assert report["facts"]["cannot be measured"] == "fails: trio wide no-op"


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_a_shape_is_a_graph_in_order(shape: str) -> None:
    """Each job requires jobs with lower numbers, none of them twice; their number is the requested one."""
    graph = graphs.make(shape, 1_000)
    assert graph.size == 1_000
    for job, required in enumerate(graph.requirements):
        assert len(set(required)) == len(required)
        assert all(0 <= requirement < job for requirement in required)
    assert sum(map(len, graph.successors())) == sum(map(len, graph.requirements))
    assert sorted(job for level in graph.levels() for job in level) == list(
        range(1_000)
    )


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("shape", ["wide", "random"])
@pytest.mark.parametrize("rival", BY_HAND, ids=lambda one: f"{one.name}-{one.backend}")
def test_a_rival_does_what_it_should(
    rival: rivals.Rival, shape: str, window: int | None
) -> None:
    if rival.enters(shape, 100, window):
        verification.verify(rival, shape, window)


def leaves_jobs_out(
    graph: graphs.Graph, body: Body, window: int | None
) -> Callable[[], Any]:
    async def run() -> None:
        for job in range(graph.size - 1):
            await body(job)

    return run


def runs_jobs_twice(
    graph: graphs.Graph, body: Body, window: int | None
) -> Callable[[], Any]:
    async def run() -> None:
        for job in (*range(graph.size), 0):
            await body(job)

    return run


def ignores_requirements(
    graph: graphs.Graph, body: Body, window: int | None
) -> Callable[[], Any]:
    return rivals.find("nursery alone", "trio").build(graph, body, window)


def ignores_the_window(
    graph: graphs.Graph, body: Body, window: int | None
) -> Callable[[], Any]:
    return rivals.find("counters on a nursery", "trio").build(graph, body, None)


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (leaves_jobs_out, "1 jobs were not run"),
        (runs_jobs_twice, "job 0 ran twice"),
        (ignores_requirements, "before what it requires had ended"),
        (ignores_the_window, "jobs ran in a window of 2"),
    ],
)
def test_a_rival_that_cheats_is_not_timed(build: rivals.Build, fault: str) -> None:
    cheat = replace(
        rivals.find("counters on a nursery", "trio"), name="cheat", build=build
    )
    with pytest.raises(verification.WrongRival, match=fault):
        verification.verify(cheat, "layered", 2)


@pytest.mark.parametrize("backend", plans.LOOPS)
def test_what_leaves_a_body_out_is_not_timed(backend: str) -> None:
    def lazy(backend: str, size: int, body: Body) -> groups.Run:
        return groups.timed_by_us(backend, size - 1, body)

    with pytest.raises(groups.WrongWay, match="19 bodies ran, not 20"):
        groups.verify("lazy", lazy, measuring.Setting(backend, "timeout", "no-op"))


def measured(contestant: str, size: int, *samples: float) -> measuring.Measurement:
    setting = measuring.Setting("trio", "wide", "no-op", size)
    return measuring.Measurement("running", contestant, setting, "run", samples)


def test_a_ratio_compares_the_best_of_the_same_size() -> None:
    """At the largest size that rivals ran too, trioflow's best is compared with the best rival's."""
    results = figures.Results(
        [
            measured("trioflow", 100, 9.0),
            measured("slow", 100, 1.0),
            measured("trioflow", 1_000, 3.0, 2.0),
            measured("slow", 1_000, 9.0, 8.0),
            measured("quick", 1_000, 4.0, 5.0),
            measured("trioflow", 10_000, 7.0),
        ]
    )
    assert results.against_best(
        "running", "run", ["slow", "quick"], backend="trio"
    ) == (0.5, "quick")
    assert results.against_best("running", "run", ["absent"], backend="trio") == (
        None,
        "",
    )


def test_contestants_take_turns() -> None:
    """Each round begins with another contestant, and every sample is kept."""
    order: list[str] = []

    def contestant(name: str) -> measuring.Contestant:
        def attempt() -> measuring.Sample:
            order.append(name)
            return {"run": float(len(order))}

        return measuring.Contestant(name, measuring.Setting("trio"), attempt)

    contest = measuring.Contest("running", [contestant("a"), contestant("b")], rounds=3)
    found = list(measuring.hold(contest, lambda contestant: None))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [(one.contestant, one.samples) for one in found] == [
        ("a", (1, 4, 5)),
        ("b", (2, 3, 6)),
    ]


@pytest.mark.slow
@pytest.mark.skipif(not have_sshd(), reason="needs openssh-server and openssh-client")
def test_nodes_are_measured(tmp_path: Path) -> None:
    """Each figure has a value: trioflow ran on both backends, and so did its rivals."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--tiny",
        "--cases",
        plans.NODES,
        "--output",
        tmp_path,
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = [one["value"] for one in report["figures"] if one["group"] == "nodes"]
    assert len(found) == 2 * sum(map(len, figures.NODE_RIVALS.values()))
    assert all(value > 0 for value in found)


@pytest.mark.slow
@pytest.mark.skipif(not have_sshd(), reason="needs openssh-server and openssh-client")
def test_connections_and_sessions_are_weighed() -> None:
    """A connection is a process here, and so is each session over it; the server's processes are not counted."""
    weighed = nodes.weigh(of_nodes.OVER_ONE[0], 4)
    assert 0 < weighed["node"] < 20
    assert 0 < weighed["session"] < 4


def test_asynciojobs_names_are_compared_with_asynciojobs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each line has a job's time with both libraries, and the ratio."""
    asynciojobs_names.main(["--rounds", "1"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 2 * len(asynciojobs_names.SHAPES)
    assert all(min(float(figure) for figure in row[30:].split()) > 0 for row in rows)


def test_elapsed_time_alone_is_measured_as_it_is_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command measures the same steps, names each one at its end, and writes the outcomes."""

    def measure(
        size: plans.ElapsedSize,
    ) -> Iterator[tuple[str, elapsed_report.Outcome]]:
        assert size == plans.TINY_ELAPSED
        for way in ways.installed():
            yield (
                "a step",
                elapsed_report.Outcome(way.label, "workflow", "simulated 4", 1.25),
            )
        yield "a step", elapsed_report.Outcome("", "", "", None, is_last=True)

    monkeypatch.setattr(elapsed, "measure", measure)
    assert elapsed.main(["--tiny", "--output", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    assert " s  a step\n" in shown.out
    assert shown.err == ""
    outcomes = json.loads((tmp_path / "elapsed.json").read_text())
    assert [(one["way"], one["value"]) for one in outcomes] == [
        (way.label, 1.25) for way in ways.installed()
    ]


def test_drawn_workflows_are_always_the_same() -> None:
    """The requirements of each of the forty are listed before it, and none takes no time."""
    first, again = list(workflows.drawn()), list(workflows.drawn())
    assert first == again
    assert len({one.name for one in first}) == 40
    for one in first:
        assert all(
            max(required, default=-1) < number
            for number, required in enumerate(one.graph.requirements)
        )
        assert min(one.seconds) > 0


@pytest.mark.slow
def test_the_scenario_beside_the_others_is_killed_and_resumed(tmp_path: Path) -> None:
    """After the crash all feasible jobs complete; by hand, finished ones run again."""
    (way,) = [way for way in beside.WAYS if not way.packages]
    found = beside.measure(way, tmp_path)
    assert (found["done"], found["missing"], found["left"]) == (beside.DONE, 0, 0)
    assert found["twice"] >= 100


def test_a_table_beside_the_others_has_a_column_for_each_way() -> None:
    """A missing measurement is a dash."""
    rows = beside.table({"one": {"lines": 7}, "two": {}}).splitlines()
    assert rows[0].split("|")[2:4] == [" one ", " two "]
    assert rows[2] == "| lines of code | 7 | – |"
