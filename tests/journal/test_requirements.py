"""What a job requires counts: what follows a step that has changed, or has run since, runs again, as in make."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    AbstractJob,
    CommandJob,
    First,
    Job,
    Scheduler,
    Sequence,
    Service,
    Trace,
    ref,
)
from trioflow.cli._scenario import keep_selected_jobs
from trioflow.view.text._verdict import Tally, run_verdict
from ..bodies import fail_now, serve
from ..cli.command_line import trioflow
from ..conftest import FRAMES, Virtual


async def step(*query: Any) -> None:
    """Do nothing but an effect that the journal does not see, as a query does."""


async def named(name: str, *query: Any) -> str:
    return name


async def opaque(*query: Any) -> Any:
    return object()


async def fail_if(fails: bool) -> None:
    if fails:
        raise OSError("broken")


async def opened() -> object:
    return object()


def run(virtual: Virtual, file: Path, *jobs: Any, **options: Any) -> str:
    scheduler = Scheduler(*jobs, label="night", **options)
    virtual(partial(scheduler.co_run, journal=file))
    return labels(scheduler.iterate_jobs())


def labels(jobs: Iterable[AbstractJob[Any]]) -> str:
    """Return the labels of the jobs that ran, without schedulers and what is stored nowhere."""
    return " ".join(
        job.label
        for job in jobs
        if job.attempts
        and not isinstance(job, Scheduler)
        and not job.label.startswith("-")
    )


# Each case builds jobs, in which "x" has this version, and names those that run if the version changes.
CASES: dict[str, tuple[Callable[[int], Iterable[Any]], str]] = {
    "requirement": (lambda x: chain(Job(step, x, label="x")), "x a b"),
    "input without a result": (lambda x: [s := Job(step, x, label="x"), Job(step, s, label="a")], "x a"),
    "input that returns a name": (lambda x: [s := Job(named, "t", x, label="x"), Job(step, s, label="a")], "x a"),
    "order only": (lambda x: [s := Job(step, x, label="x"), Job(step, label="a").requires(s, order_only=True)], "x"),
    "input, order only": (
        lambda x: [s := Job(named, "t", x, label="x"), Job(step, s, label="a").requires(s, order_only=True)], "x",
    ),
    "both": (
        lambda x: [s := Job(step, x, label="x"), Job(step, label="a", required=s).requires(s, order_only=True)], "x",
    ),
    "order only, required again": (
        lambda x: [s := Job(step, x, label="x"), Job(step, label="a").requires(s, order_only=True).requires(s)], "x",
    ),
    "sequence": (lambda x: [Sequence(Job(step, x, label="x"), Job(step, label="a"), Job(step, label="b"))], "x a b"),
    "sequence, order only": (
        lambda x: [Sequence(Job(step, x, label="x"), Job(step, label="a"), order_only=True)], "x",
    ),
    "a sequence that requires": (
        lambda x: [s := Job(step, x, label="x"), Sequence(Job(step, label="a")).requires(s, order_only=True)], "x",
    ),
    "behind save=None": (lambda x: chain(Job(step, x, label="x"), save=None), "x b"),
    "save=None itself": (lambda x: chain(Job(step, x, label="-", save=None)), ""),
    "behind a service": (
        lambda x: [s := Job(step, x, label="x"), t := Service(serve, label="-", required=s),
                   Job(step, label="a", required=t)], "x a",
    ),
    "required from now on": (
        lambda x: [s := Job(step, label="s"), Job(step, label="a", required=s if x > 1 else None)], "a",
    ),
    "no longer required": (
        lambda x: [s := Job(step, label="s"), Job(step, label="a", required=s if x == 1 else None)], "a",
    ),
    "into a first from now on": (
        lambda x: [s := Job(step, label="s"), First(Job(step, label="a"), required=s if x > 1 else None)], "a",
    ),
    "group": (lambda x: [g := group(Job(step, x, label="x")), Job(step, label="a", required=g)], "x a"),
    "into a group": (
        lambda x: [s := Job(step, x, label="x"), group(group(Job(step, label="a")), required=s)], "x a",
    ),
    "version": (lambda x: chain(Job(step, label="x", version=x)), "x a b"),
    "behind a version": (lambda x: chain(Job(step, x, label="x"), version=1), "x a b"),
    "key": (lambda x: chain(Job(step, x, label="x", key=1)), ""),
    "behind a key": (lambda x: chain(Job(step, x, label="x"), key=1), "x"),
    "unstorable": (lambda x: chain(Job(opaque, x, label="x")), "x a b"),
    "by reference": (lambda x: [s := Job(step, x, label="x"), Job(step, ref(s), label="a", required=s)], "x a"),
    "a connection": (lambda x: [c := Job(opened, label="-", save=None), Job(step, c, x, label="x"),
                                Job(step, c, label="a")], "x"),
    "first": (lambda x: [f := First(Job(step, x, label="x"), Job(step, label="-")),
                         Job(step, label="a", required=f)], "x a"),
    "into a first": (lambda x: [s := Job(step, x, label="x"), First(Job(step, label="a"), required=s)], "x a"),
}  # fmt: skip


def chain(first: AbstractJob[Any], **options: Any) -> list[AbstractJob[Any]]:
    """Return a job, and two jobs behind it, of which the nearer one has these options."""
    near = Job(
        step, label="-a" if "save" in options else "a", required=first, **options
    )
    return [first, near, Job(step, label="b", required=near)]


def group(*jobs: Any, **options: Any) -> Scheduler:
    return Scheduler(*jobs, label="group", **options)


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES)
def test_what_a_job_requires_counts(
    virtual: Virtual, tmp_path: Path, case: str
) -> None:
    """What follows a step that has changed runs again, unless only the order counts; then all is restored."""
    build, expected = CASES[case]
    assert {*expected.split()} <= {
        *run(virtual, tmp_path / "run.db", *build(1)).split()
    }
    always = "x a b" if case == "unstorable" else ""
    assert run(virtual, tmp_path / "run.db", *build(1)) == always
    assert run(virtual, tmp_path / "run.db", *build(2)) == expected


def test_a_step_that_has_run_since_counts(virtual: Virtual, file: Path) -> None:
    def build() -> list[AbstractJob[Any]]:
        return chain(Job(step, label="x"))

    assert run(virtual, file, *build()) == "x a b"
    trioflow("journal", str(file), "forget", "x")
    assert (
        run(virtual, file, *build()[:1]) == "x"
    )  # a run that is killed after its first job
    later = Scheduler(*build())
    virtual(partial(later.co_run, journal=file))
    assert labels(later) == "a b"
    assert later.explain([*later][1]).endswith("it was not restored: 'x' has run since")


def test_a_command_whose_output_was_deleted_counts(
    tmp_path: Path, backend: str
) -> None:
    """What follows a command that runs again because its output was deleted runs again, too."""
    out, ran = tmp_path / "out", []
    for _ in range(3):
        made = CommandJob(["touch", out], writes=[out], label="x")
        scheduler = Scheduler(made, Job(step, required=made, label="a"))
        scheduler.run(backend=backend, journal=tmp_path / "run.db")
        ran.append(labels(scheduler))
        if len(ran) == 2:
            out.unlink()
    assert ran == ["x a", "", "x a"]


def test_a_requirement_that_did_not_succeed_counts_by_its_state(
    virtual: Virtual, file: Path
) -> None:
    """A report behind jobs that may fail runs again when one of them has succeeded; it once kept "1 failed"."""
    ran, why = [], ""
    for key, broken in ((1, True), (1, True), (1, False), (1, False), (2, True)):
        job = Job(fail_if, key=key, label="x", critical=False, kwargs={"fails": broken})
        report = Job(step, label="a").requires(job, settled=True)
        ran.append(run(virtual, file, job, report))
        why = "" if report.scheduler is None else report.scheduler.explain(report)
    assert ran == ["x a", "x", "x a", "", "x a"]
    assert why.endswith("it was not restored: 'x' is failed")


def test_a_first_counts_by_its_jobs_whichever_wins(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What follows a `First` is restored with it, though another job of it wins in the next run."""

    def build(fast: str) -> list[AbstractJob[Any]]:
        jobs = [
            Job(nap_once, name == fast, key=name, label=f"-{name}") for name in "ab"
        ]
        return [race := First(*jobs, label="race"), Job(step, label="x", required=race)]

    assert run(virtual, file, *build("a")) == "x"
    for _ in range(2):
        assert run(virtual, file, *build("a")) == ""
    assert "older" not in caplog.text
    trioflow("journal", str(file), "forget", "race*")
    assert run(virtual, file, *build("b")) == "x"  # the First has run since
    assert run(virtual, file, *build("a")) == ""


async def nap_once(is_fast: bool) -> None:
    await anyio.sleep(1 if is_fast else 2)


@pytest.mark.parametrize("dropped", [False, True])
def test_what_a_group_has_dropped_counts(
    virtual: Virtual, file: Path, dropped: bool
) -> None:
    for x, expected in ((0, False), (0, True), (1, False), (1, True)):
        jobs = [
            Job(step, number, x if number == 2 else 0, label=f"x{number}")
            for number in range(4)
        ]
        fetched = Scheduler(*jobs, label="fetch", keep_jobs=not dropped)
        last = Job(step, label="a", required=fetched)
        assert ("a" in run(virtual, file, fetched, last)) is not expected


# ---- the reasons

CAUSES: list[tuple[Callable[[int], Iterable[Any]], str]] = [
    (lambda x: chain(Job(step, x, label="x")), "3 run again, because 'x' has changed"),
    (
        lambda x: [
            g := group(*(Job(step, n, label=f"{n}") for n in range(x))),
            *behind(g),
        ],
        "3 run again, because 'group' has one job more (if only the order counts: order_only=True)",
    ),
    (
        lambda x: [
            g := group(*(Job(step, n, label=f"{n}") for n in range(9 - 2 * x))),
            *behind(g),
        ],
        "3 run again, because 'group' has 2 jobs fewer (if only the order counts: order_only=True)",
    ),
    (
        lambda x: [
            s := Job(step, x, label="x"),
            t := Job(step, x, label="y"),
            *behind(s),
            Job(step, t, label="z"),
        ],
        "6 run again: 4 because 'x' has changed; 2 because 'y' has changed",
    ),
    (
        lambda x: [
            jobs := [Job(step, n, label=f"{n}") for n in range(4)],
            Job(step, label="a", required=jobs[:x]),
        ],
        "1 run again, because 'a' requires one job more (if only the order counts: order_only=True)",
    ),
    (
        lambda x: [Job(step, x, label=f"{n}") for n in range(9)],
        "9 run again: 1 because '0' has changed; 1 because '1' has changed; 7 for other reasons",
    ),
    (
        lambda x: [Job(anyio.sleep, 9 * x - n, label=f"{n}") for n in range(4)],
        "4 run again: 1 because '0' has changed; 1 because '1' has changed; 2 for other reasons",
    ),
    (
        lambda x: [
            s := Job(step, x, label="x"),
            t := Job(anyio.sleep, x, label="y"),
            Job(step, required=[s, t]),
        ],
        "3 run again: 2 because 'x' has changed; 1 because 'y' has changed",
    ),
    (
        lambda x: [
            s := Job(named, f"{x}", label="x"),
            t := Job(step, s, label="a"),
            t.requires(s, order_only=True),
        ],
        "2 run again: 1 because 'x' has changed; 1 because the result of 'x' has changed",
    ),
]


def behind(required: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    return [Job(step, n, label=f"behind {n}", required=required) for n in range(3)]


@pytest.mark.parametrize(
    ("build", "expected"), CAUSES, ids=[expected for _, expected in CAUSES]
)
def test_the_verdict_counts_by_the_first_cause(
    virtual: Virtual, file: Path, build: Callable[[int], Iterable[Any]], expected: str
) -> None:
    """How many jobs have run again, and because of what, is said of the run, by its trace, and by its journal."""
    traces = [Trace() for _ in range(3)]
    for x, trace in zip((1, 1, 2), traces, strict=True):
        scheduler = Scheduler(*build(x), Job(step, label="kept"), instruments=[trace])
        virtual(partial(scheduler.co_run, journal=file))
    shown = [
        trioflow("journal", str(file)).stdout,
        run_verdict(scheduler, scheduler.stop_reason).sentence,
    ]
    assert [text for text in shown if expected not in text] == []
    assert traces[2]._get_record().tally.reruns == Tally.for_scheduler(scheduler).reruns


async def copied(source: str, target: str, *query: Any) -> None:
    await anyio.Path(target).write_bytes(await anyio.Path(source).read_bytes())


def pipeline(command: str = "cat in > mid", **options: Any) -> Scheduler:
    first = CommandJob(command, shell=True, reads="in", writes="mid", label="a")
    files: dict[str, Any] = {"reads": "mid", "writes": "out", "required": first}
    second = Job(
        copied, "mid", "out", options.pop("query", 0), label="b", **files, **options
    )
    return Scheduler(
        first, second, Job(step, label="c", required=second), label="night"
    )


# What is done between two runs, and what the second run is given.
KINDS_OF_CHANGES: dict[str, tuple[Callable[[], object], dict[str, Any], str]] = {
    "input": (
        lambda: Path("in").write_text("22"),
        {},
        "3 run again, because 'in' has changed",
    ),
    "removed input": (
        lambda: os.unlink("in"),
        {},
        "1 run again, because 'in' is missing",
    ),
    "intermediate": (
        lambda: Path("mid").write_text("22"),
        {},
        "3 run again, because 'mid' has changed",
    ),
    "removed intermediate": (
        lambda: os.unlink("mid"),
        {},
        "3 run again, because 'mid' is missing",
    ),
    "output": (
        lambda: Path("out").write_text("22"),
        {},
        "2 run again, because 'out' has changed",
    ),
    "removed output": (
        lambda: os.unlink("out"),
        {},
        "2 run again, because 'out' is missing",
    ),
    "secret output": (
        lambda: os.unlink("out"),
        {"redact": True},
        "2 run again, because a file of 'b' is missing",
    ),
    "command": (
        str,
        {"command": "cat < in > mid"},
        "3 run again, because 'a' has changed",
    ),
    "version": (str, {"version": 2}, "2 run again, because 'b' has changed"),
    "argument": (str, {"query": 1}, "2 run again, because 'b' has changed"),
    "input and output": (
        lambda: (Path("in").write_text("22"), os.unlink("out")),
        {},
        "3 run again, because 'in' has",
    ),
}


@pytest.mark.parametrize("kind", KINDS_OF_CHANGES)
def test_one_change_is_one_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, kind: str
) -> None:
    """The verdict said of a job whose output was gone that it had run since, and of its users that they had changed."""
    change, given, expected = KINDS_OF_CHANGES[kind]
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("1")
    trace = Trace()
    assert pipeline(redact=given.get("redact", False)).run(
        backend=backend, journal="j.db"
    )
    change()
    scheduler = pipeline(**given)
    scheduler.instruments = [trace]
    assert scheduler.run(backend=backend, journal="j.db") is (kind != "removed input")
    shown = [
        trioflow("journal", "j.db").stdout,
        run_verdict(scheduler, scheduler.stop_reason).sentence,
    ]
    assert [text for text in shown if expected not in text] == []
    assert trace._get_record().tally.reruns == Tally.for_scheduler(scheduler).reruns


# ---- what is left out of a run
def night(x: int) -> Scheduler:
    stage = Job(step, x, label="stage")
    marts = Scheduler(Job(step, label="mart"), label="marts", required=stage)
    return Scheduler(
        stage, marts, Job(step, label="report", required=marts), label="night"
    )


def only(virtual: Virtual, file: Path, x: int, *patterns: str) -> str:
    scheduler = night(x)
    keep_selected_jobs(scheduler, patterns)
    virtual(partial(scheduler.co_run, journal=file))
    return labels(scheduler.iterate_jobs())


def test_what_only_leaves_out_is_taken_as_it_is(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`--only` runs again what it selects only if that has changed, or what it requires has run since."""
    assert only(virtual, file, 1) == "stage mart report"
    assert only(virtual, file, 2, "marts/mart") == ""
    assert only(virtual, file, 2, "report") == ""
    assert only(virtual, file, 1) == ""
    assert only(virtual, file, 2, "stage") == "stage"
    assert only(virtual, file, 2, "report") == ""  # mart has not run since
    assert only(virtual, file, 2, "marts/mart") == "mart"
    assert only(virtual, file, 2, "report") == "report"
    assert only(virtual, file, 2, "report") == ""
    assert only(virtual, file, 3, "stage") == "stage"
    assert (
        only(virtual, file, 3, "marts/mart") == "mart"
    )  # though it has run by itself before
    assert only(virtual, file, 3, "report") == "report"
    assert only(virtual, file, 3) == ""
    assert only(virtual, file, 4) == "stage mart report"
    assert caplog.text == ""


def test_what_only_restores_counts_as_before_in_the_next_whole_run(
    virtual: Virtual, file: Path
) -> None:
    def ran(is_required: bool, *patterns: str) -> str:
        first = Job(step, label="first")
        scheduler = Scheduler(
            first, Job(step, label="last", required=first if is_required else None)
        )
        keep_selected_jobs(scheduler, patterns)
        virtual(partial(scheduler.co_run, journal=file))
        return labels(scheduler.iterate_jobs())

    assert ran(True) == "first last"
    assert ran(True, "last") == ""
    assert ran(True) == ""
    assert ran(True, "last") == ""
    assert ran(False) == "last"
    assert ran(False) == ""


# ---- jobs that do no work
@pytest.mark.usefixtures("few_frames")
@pytest.mark.parametrize("between", ["skipped", "blocked", "group", "chain"])
def test_a_job_that_did_no_work_passes_on_what_it_requires(
    virtual: Virtual, file: Path, between: str
) -> None:
    """What follows a changed step runs again, also through a job that was skipped or blocked: it was once restored."""

    def ran(number: int) -> list[str]:
        job = Job(give_number, number, label="first")
        middle: list[AbstractJob[Any]] = []
        for place in range(FRAMES + 10 if between == "chain" else 1):
            last = middle[-1] if middle else job
            match between:
                case "blocked":
                    failed = Job(fail_now, label="failed", critical=False, log=False)
                    middle += [
                        failed,
                        Job(give_number, 0, label="middle", required=[job, failed]),
                    ]
                case "group":
                    middle.append(
                        Scheduler(
                            Job(give_number, 0, label="inside"),
                            label="middle",
                            required=job,
                            run_if="failed",
                        )
                    )
                case _:
                    middle.append(
                        Job(
                            give_number,
                            0,
                            label=f"middle {place}",
                            required=last,
                            run_if="failed",
                        )
                    )
        beside = Job(
            give_number, 8, label="beside"
        )  # otherwise the job behind would be skipped, too
        behind = Job(give_number, 9, label="behind", required=beside)
        behind.requires(middle[-1], settled=True)
        virtual(lambda: Scheduler(job, *middle, beside, behind).co_run(journal=file))
        return [
            done.label
            for done in (job, behind)
            if done.is_succeeded() and not done.restored
        ]

    assert ran(1) == ["first", "behind"]
    assert ran(1) == []
    assert ran(2) == ["first", "behind"]


async def give_number(number: int) -> int:
    return number
