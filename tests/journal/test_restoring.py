"""A run with a journal: which jobs are restored, which run again and why; all else is as without a journal."""

import contextlib
import gc
import io
import logging
import operator
import os
import pickle
import re
import shutil
import sqlite3
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    Job,
    Journal,
    Scheduler,
    StopReason,
    current_job,
    current_scheduler,
    ref,
)
from trioflow.abc import JobKind, incidents_of, run_of
from trioflow.journal._recorder import Recorder
from trioflow.journal._store import JournalStore, checksum, read_with_retry
from trioflow.view import listing
from ..bodies import co_run_drained, fail, give, hooked, raising, ticking
from ..cli import command_line
from ..conftest import Virtual

calls: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


async def double(number: Any) -> Any:
    calls.append(number)
    return 2 * number


async def total(*numbers: Any, start: int = 0) -> Any:
    calls.append(numbers)
    return sum(numbers, start)


async def version_one() -> str:
    return "one"


def again(virtual: Virtual, journal: Any, build: Callable[[], Scheduler]) -> Scheduler:
    scheduler = build()
    calls.clear()
    virtual(partial(scheduler.co_run, journal=journal))
    return scheduler


def states(scheduler: Scheduler) -> dict[str, str]:
    return {
        job.label: "restored" if job.restored else job.state.value
        for job in scheduler.iterate_jobs()
    }


# ---- what is restored
def diamond() -> Scheduler:
    a = Job(double, 1, label="a")
    b, c = Job(double, a, label="b"), Job(total, a, 3, label="c")
    return Scheduler(Job(total, b, label="d", kwargs={"start": c}, required=a))


def test_a_second_run_restores_everything(virtual: Virtual, file: Path) -> None:
    """A second run with the journal calls no function, and each job is SUCCEEDED with the result that it had."""
    first = again(virtual, file, diamond)
    assert len(calls) == 4
    second = again(virtual, file, diamond)
    assert calls == []
    assert set(states(second).values()) == {"restored"}
    assert [job.result() for job in second] == [job.result() for job in first]
    assert second.stop_reason is StopReason.COMPLETED
    assert all(job.attempts == 0 and job.started_at is None for job in second)
    assert [job.elapsed for job in second] == [
        job.elapsed for job in first
    ]  # that of the run that ran it


def test_a_job_that_succeeds_while_a_run_drains_is_committed_immediately(
    virtual: Virtual, file: Path
) -> None:
    async def main() -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(co_run_drained, scheduler, 1, journal=file))
            await anyio.sleep(3)
            with contextlib.closing(sqlite3.connect(file)) as db:
                ((number,),) = db.execute("SELECT count(*) FROM jobs")
        return int(number)

    scheduler = Scheduler(Job(anyio.sleep, 2), Job(anyio.sleep, 9))
    assert virtual(main) == 1


def test_jobs_dropped_by_keep_jobs_false_are_restored_and_not_kept_in_memory(
    virtual: Virtual, file: Path
) -> None:
    """Jobs dropped by `keep_jobs=False` are restored and freed; once, the journal referred to each job of a run."""
    alive: list[int] = []
    found: list[tuple[Any, bool]] = []

    async def feed() -> None:
        scheduler = current_scheduler()
        added: list[weakref.ref[Any]] = []
        for number in range(20):
            name = f"number {number}" if number % 2 else None
            doubled = Job(double, number, label=name and f"double {name}")
            last = scheduler.add(Job(total, doubled, number, label=name))
            bad = scheduler.add(Job(fail, label="all alike"))
            inner = scheduler.add(Scheduler(Scheduler(Job(double, number)), label=name))
            added += [
                weakref.ref(last),
                weakref.ref(bad),
                *map(weakref.ref, inner.iterate_jobs()),
            ]
            await bad.wait_settled()
            await inner.wait_settled()
            found.append((await last, last.restored))
        del doubled, last, bad, inner
        gc.collect()
        alive.append(sum(one() is not None for one in added))

    for restored in (False, True):
        found.clear()
        scheduler = again(virtual, file, lambda: Scheduler(Job(feed), keep_jobs=False))
        assert scheduler.stop_reason in (StopReason.COMPLETED, StopReason.FAILED)
        assert found == [(3 * number, restored) for number in range(20)]
    assert max(alive) <= 18  # with the first 16 failures, which are kept


def test_without_a_journal_nothing_is_restored(virtual: Virtual, file: Path) -> None:
    scheduler = again(virtual, file, diamond)
    virtual(partial(scheduler.co_run, journal=file))
    assert set(states(scheduler).values()) == {"restored"}
    virtual(scheduler.co_run)
    assert set(states(scheduler).values()) == {"succeeded"}


def test_failed_and_blocked_jobs_run_again(virtual: Virtual, file: Path) -> None:
    broken = True

    async def sometimes() -> int:
        if broken:
            raise ValueError("broken")
        return 7

    def build() -> Scheduler:
        job = Job(sometimes, label="sometimes")
        return Scheduler(Job(double, 1, label="fine"), Job(double, job, label="after"))

    assert states(again(virtual, file, build)) == {
        "fine": "succeeded",
        "sometimes": "failed",
        "after": "blocked",
    }
    broken = False
    assert states(again(virtual, file, build)) == {
        "fine": "restored",
        "sometimes": "succeeded",
        "after": "succeeded",
    }
    assert set(states(again(virtual, file, build)).values()) == {"restored"}


def test_run_if_rules_treat_a_restored_job_as_succeeded(
    virtual: Virtual, file: Path
) -> None:
    def build() -> Scheduler:
        good = Job(double, 1, label="good")
        alarm = Job(double, 2, label="alarm", run_if="failed", required=good)
        return Scheduler(good, alarm, Job(double, alarm, label="after alarm"))

    expected = {"good": "succeeded", "alarm": "skipped", "after alarm": "skipped"}
    assert states(again(virtual, file, build)) == expected
    assert states(again(virtual, file, build)) == expected | {"good": "restored"}


def test_jobs_of_nested_schedulers_are_restored_by_their_paths(
    virtual: Virtual, file: Path
) -> None:
    def build() -> Scheduler:
        inner = [
            Scheduler(
                Job(double, n, label="a"), Job(double, n + 1, label="a"), label="in"
            )
            for n in (1, 3)
        ]
        return Scheduler(*inner)

    first = again(virtual, file, build)
    assert sorted(calls) == [1, 2, 3, 4]
    second = again(virtual, file, build)
    assert calls == []
    assert [job.result() for job in second.iterate_jobs()] == [
        job.result() for job in first.iterate_jobs()
    ]
    assert [job.restored for job in second] == [
        False,
        False,
    ]  # the nested schedulers themselves have run


def test_jobs_added_during_a_run_are_restored(virtual: Virtual, file: Path) -> None:
    """A job that adds others runs again: once it was restored, and the jobs that it adds were missing."""

    async def grow() -> None:
        scheduler = current_scheduler()
        for number in range(3):
            scheduler.add(Job(double, number, label=f"grown {number}"))

    def build() -> Scheduler:
        return Scheduler(Job(grow, label="grow"))

    again(virtual, file, build)
    assert calls == [0, 1, 2]
    second = again(virtual, file, build)
    assert calls == []
    assert [job.restored for job in second] == [False, True, True, True]


def test_services_always_run(virtual: Virtual, file: Path) -> None:
    async def serve(*, task_status: anyio.abc.TaskStatus[object]) -> None:
        calls.append("serve")
        task_status.started(object())
        await anyio.sleep_forever()

    async def use(service: object) -> int:
        calls.append("use")
        return 1

    def build() -> Scheduler:
        return Scheduler(
            Job(use, trioflow.Service(serve, label="service"), label="use")
        )

    again(virtual, file, build)
    assert calls == ["serve", "use"]
    second = again(virtual, file, build)
    assert calls == ["serve"]
    assert states(second) == {"service": "succeeded", "use": "restored"}


def test_a_result_dropped_by_keep_result_false_is_still_stored(
    virtual: Virtual, file: Path
) -> None:
    def build() -> Scheduler:
        return Scheduler(
            Job(double, Job(double, 1, label="a", keep_result=False), label="b")
        )

    again(virtual, file, build)
    assert states(again(virtual, file, build)) == {"a": "restored", "b": "restored"}


def test_a_job_cut_short_by_its_timeout_runs_again(
    virtual: Virtual, file: Path
) -> None:
    """A job cut short by a timeout with `on_timeout="move_on"` runs again, since its work is incomplete."""

    def build() -> Scheduler:
        options: dict[str, Any] = {"timeout": 5, "on_timeout": "move_on"}
        return Scheduler(
            Job(anyio.sleep, 10, label="nap", **options),
            Job(double, 1, label="in time", **options),
        )

    for state in ("succeeded", "restored"):
        assert states(again(virtual, file, build)) == {
            "nap": "succeeded",
            "in time": state,
        }


@pytest.mark.parametrize(
    "options",
    [{"retry": trioflow.Retry(None, first=0, on=trioflow.JobTimeout)}, {"retry": 1}],
)
def test_a_job_that_succeeded_after_a_timeout_is_restored(
    virtual: Virtual, file: Path, options: Any
) -> None:
    """A job is restored if a timeout cut an earlier attempt, and not the last; `explain` does not mention it."""

    async def slow_at_first() -> int:
        calls.append("called")
        if len(calls) == 1:
            await anyio.sleep(10)
        return 7

    def build() -> Scheduler:
        return Scheduler(
            Job(slow_at_first, label="nap", timeout=1, key="nap", **options)
        )

    first = again(virtual, file, build)
    (job,) = first
    assert (job.timed_out, job.result(), len(calls)) == (True, 7, 2)
    assert re.fullmatch(
        r"'nap' succeeded after \S+ s; it was not restored: it has no result in the journal",
        explanation_of(job),
    )
    assert states(again(virtual, file, build)) == {"nap": "restored"}
    assert calls == []


async def count(*given: Any, **named: Any) -> int:
    return len(given) + len(named)


def test_a_changed_input_runs_a_job_again_even_inside_a_container(
    virtual: Virtual, file: Path
) -> None:
    def build(number: int) -> Scheduler:
        source = Job(double, number, label="source")
        users = [
            Job(count, source),
            Job(count, [0, (source,)]),
            Job(count, {"a": source}),
        ]
        users += [Job(count, kwargs={"a": source}), Job(count, kwargs={"a": [source]})]
        return Scheduler(
            source,
            *(Scheduler(user, label=str(place)) for place, user in enumerate(users)),
        )

    for number, restored in ((1, False), (1, True), (2, False)):
        found = again(virtual, file, partial(build, number)).iterate_jobs()
        assert [job.restored for job in found if not isinstance(job, Scheduler)] == [
            restored
        ] * 6


def test_a_journal_is_closed_if_recording_fails(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If recording a new run fails, the journal is closed, so that the next run can open it."""
    with monkeypatch.context() as patch:
        patch.setattr(
            JournalStore, "add_run", raising(trioflow.JournalError("no run can begin"))
        )
        with pytest.raises(trioflow.JournalError, match="no run can begin"):
            again(virtual, file, diamond)
    assert set(states(again(virtual, file, diamond)).values()) == {"succeeded"}


def test_a_retry_of_a_nested_scheduler_runs_its_restored_jobs_again(
    virtual: Virtual, file: Path
) -> None:
    good = Job(double, 1, label="good")

    def build() -> Scheduler:
        bad = Job(
            fail, label="bad", critical=True, required=Job(double, 1, label="good")
        )
        return Scheduler(Scheduler(*bad.required, bad, label="inner", retry=1))

    again(virtual, file, build)
    assert calls == [1, 1]
    again(virtual, file, build)
    assert calls == [1]
    assert good.state is trioflow.JobState.IDLE


@pytest.mark.parametrize("seconds", [0, 1])
def test_what_has_failed_in_another_attempt_of_its_group_is_not_restored(
    virtual: Virtual, file: Path, seconds: float
) -> None:
    """It had succeeded in the attempt before: the next run restored that, and never called what had failed."""
    fails = {"a": [False, True, False], "b": [True, False]}

    async def step(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        if fails[name].pop(0):
            raise OSError(name)

    def build() -> Scheduler:
        jobs = [Job(step, "a", 0, label="a"), Job(step, "b", seconds, label="b")]
        return Scheduler(Scheduler(*jobs, label="group", retry=1))

    for restored in ([False, False], [False, True], [True, True]):
        (group,) = again(virtual, file, build)
        assert [job.restored for job in group] == restored
    assert fails == {"a": [], "b": []}


# ---- why a job runs again


answers: dict[str, Any] = {}


async def ask(name: str) -> Any:
    if isinstance(answers[name], Exception):
        raise answers[name]
    return answers[name]


async def join(*given: Any) -> None:
    """Stand in for a function that reads the results of jobs, from lists or directly."""


def joined_by_hand() -> Scheduler:
    """Return two jobs, and three that get them by `ref` and require both, one or none of them."""
    jobs = [
        Job(ask, name, label=name, save=None if name == "b" else "json")
        for name in "ab"
    ]
    both = Job(
        join, [ref(job) for job in jobs], required=jobs, label="both", run_if="settled"
    )
    only_b = Job(
        join, *map(ref, jobs), required=jobs[1], label="only b", run_if="settled"
    )
    neither = Job(join, *map(ref, jobs), label="neither")
    return Scheduler(*jobs, both, only_b, neither)


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        (1, 1, True),
        (1, 2, False),
        (1, ConnectionError("no answer"), False),
        (ConnectionError("no answer"), ConnectionError("no answer"), True),
        (ConnectionError("no answer"), ConnectionError("refused"), False),
        (ConnectionError("no answer"), TimeoutError("no answer"), False),
    ],
)
def test_a_job_passed_by_ref_is_compared_by_its_result_or_error(
    virtual: Virtual, file: Path, before: Any, after: Any, is_same: bool
) -> None:
    """A job that reads the results of jobs that it requires is restored only if these results are the same. A job that
    joins pages was once restored although a formerly missing page had come."""
    answers.update(a=1, b=before)
    again(virtual, file, joined_by_hand)
    answers["b"] = after
    found = states(again(virtual, file, joined_by_hand))
    state = "restored" if is_same else "succeeded"
    assert (found["both"], found["only b"], found["neither"]) == (
        state,
        state,
        "restored",
    )


def test_a_scheduler_passed_as_an_argument_is_compared_by_the_results_of_its_jobs(
    virtual: Virtual, file: Path
) -> None:
    def build() -> Scheduler:
        inner = Scheduler(Job(ask, "a", label="a", save=None), label="inner")
        outer = Scheduler(inner, label="outer")
        return Scheduler(outer, Job(join, ref(outer), required=outer, label="join"))

    for answers["a"], state in ((1, "succeeded"), (1, "restored"), (2, "succeeded")):
        assert states(again(virtual, file, build))["join"] == state


@pytest.mark.parametrize("by", ["the job", "its scheduler"])
def test_a_nested_job_by_ref_is_compared_if_its_scheduler_is_required(
    virtual: Virtual, file: Path, by: str
) -> None:
    """A report on the members of a group was once restored although a member's result had changed. The job may require
    the group alone; or the scheduler around the job does."""

    def build() -> Scheduler:
        member = Job(ask, "a", label="a", save=None)
        group = Scheduler(Scheduler(member, label="inner"), label="group")
        report = Job(
            join,
            [ref(member)],
            required=group if by == "the job" else None,
            label="report",
            run_if="settled",
        )
        last = (
            report
            if by == "the job"
            else Scheduler(report, label="last", required=group, run_if="settled")
        )
        return Scheduler(group, last)

    for answers["a"], state in (
        (1, "succeeded"),
        (1, "restored"),
        (2, "succeeded"),
        (OSError("no"), "succeeded"),
    ):
        assert states(again(virtual, file, build))["report"] == state


def test_a_job_that_reads_an_unstorable_result_by_ref_runs_each_time(
    virtual: Virtual, file: Path
) -> None:
    answers["a"] = object()

    def build() -> Scheduler:
        source = Job(ask, "a", label="source")
        return Scheduler(source, Job(join, ref(source), required=source, label="join"))

    for _ in range(2):
        scheduler = again(virtual, file, build)
    assert states(scheduler)["join"] == "succeeded"
    assert "the result of 'source'" in explanation_of(list(scheduler)[1])


def test_a_job_that_waits_is_told_only_what_it_waits_for(
    virtual: Virtual, file: Path
) -> None:
    """`explain` says why a job was not restored once it runs, and until then only what it waits for."""
    said: list[str] = []

    async def say(version: int) -> None:
        said.append(explanation_of(later))

    for version in (1, 2):
        first, later = (
            Job(say, version, label="first"),
            Job(double, version, label="later"),
        )
        assert virtual(
            partial(Scheduler(first, later, jobs_window=1).co_run, journal=file)
        )
    assert said[1] == "'later' waits for a slot: the window is full, with 'first'"
    assert explanation_of(later).endswith(
        "; it was not restored: argument 1 has changed from 1 to 2"
    )


def explanation_of(job: AbstractJob[Any]) -> str:
    assert job.scheduler is not None
    return job.scheduler.explain(job)


class Own(AbstractJob[int]):
    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self.number = number

    async def co_run(self) -> int:
        return self.number


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    async def add(self, other: int) -> int:
        return self.number + other


def summed(function: Callable[..., Any], **kwargs: int) -> Job[Any]:
    return Job(function, kwargs=kwargs)


CHANGES: list[tuple[Callable[[], AbstractJob[Any]], Callable[[], AbstractJob[Any]], str]] = [
    (lambda: Job(double, 1), lambda: Job(double, 1), ""),
    (lambda: Job(double, 1), lambda: Job(double, 2), "argument 1 has changed from 1 to 2"),
    (lambda: Job(double, 1), lambda: Job(double, True), "argument 1 has changed from 1 to true"),
    (lambda: Job(double, 1), lambda: Job(double, 1.0), "argument 1 has changed from 1 to 1.0"),
    (lambda: Job(double, "x" * 99), lambda: Job(double, "y" * 99), "argument 1 has changed$"),
    (lambda: Job(double, "x" * 99), lambda: Job(double, "y"), "argument 1 has changed$"),
    (lambda: Job(double, "x"), lambda: Job(double, "y" * 99), "argument 1 has changed$"),
    (lambda: Job(total, 1), lambda: Job(double, 1), "its function has changed from .*:total to .*:double"),
    (lambda: Job(total, 1), lambda: Job(total, 1, 2), "it had 1 argument, and now has 2"),
    (lambda: Job(total, kwargs={"start": 1}), lambda: Job(total, kwargs={"start": 2}), "argument 'start' has ch"),
    (lambda: Job(partial(total, 1)), lambda: Job(total, 1), ""),
    (lambda: Job(double, 1), lambda: Job(double, 1, version=2), "its version has changed"),
    (lambda: Job(double, 1, version=1), lambda: Job(double, 1, version=2), "its version has changed from 1 to 2"),
    (lambda: Job(double, 1, key="x"), lambda: Job(total, 2, key="x"), ""),
    (lambda: Job(double, 1, key="x"), lambda: Job(double, 1, key="y"), 'its key has changed from "x" to "y"'),
    (lambda: Job(double, 1), lambda: Job(double, 1, key="y"), "it was given a key"),
    (lambda: Job(double, 1), lambda: Job(double, 1, save="pickle"), "stored as json, but save= is now pickle"),
    (lambda: Job(double, 1), lambda: Job(double, 1, save=None), "save=None"),
    (lambda: Job(double, 1), lambda: Job(double, Job(double, 1)), "argument 1, the result of .*, has changed from"),
    (lambda: Job(double, 2), lambda: Job(double, Job(double, 1)), "requires one job more"),
    (lambda: Job(double, [2]), lambda: Job(double, [Job(double, 1)]), "argument 1 has changed"),
    (lambda: Own(1), lambda: Own(1), ""),
    (lambda: Own(1), lambda: Own(2), "attribute 'number' has changed from 1 to 2"),
    (lambda: Job(double, 1, key=object()), lambda: Job(double, 1, key=object()), "its key .a value of type"),
    (lambda: Job(total, start), lambda: Job(total, start), "argument 1 .a value of type"),
    (lambda: Job(version_one()), lambda: Job(version_one()), "created from a coroutine object"),
    (lambda: Job(version_one(), key=1), lambda: Job(version_one(), key=1), ""),
    (lambda: Job(nested(1)), lambda: Job(nested(1)), ""),
    (lambda: Job(nested(1)), lambda: Job(nested(2)), "its function has changed"),
    (lambda: Job(nested(1)), lambda: Job(nested(1, more=2)), "its function has changed"),
    (lambda: Job(lambda x=1: double(x)), lambda: Job(lambda x=2: double(x)), "its function has changed"),
    (lambda: Job(nested(start), 1), lambda: Job(nested(start), 1), ""),
    # A partial is compared as the merged call, in which the job's own keywords precede those of the partial.
    (lambda: summed(partial(total, start=1)), lambda: summed(partial(total, start=2)), "argument 'start' has changed"),
    (lambda: summed(partial(total, start=1)), lambda: summed(total, start=1), ""),
    (lambda: summed(total, start=1), lambda: summed(partial(total, start=2), start=1), ""),
    (lambda: summed(partial(total, 1), start=1), lambda: summed(partial(total, 2), start=1), "argument 1 has changed"),
]  # fmt: skip


def test_a_job_whose_work_has_changed_runs_again(virtual: Virtual, file: Path) -> None:
    """A job whose function, arguments or other identity has changed runs again, and `explain` gives the reason."""
    jobs: list[AbstractJob[Any]] = []
    for number in (0, 1):
        jobs = [change[number]() for change in CHANGES]
        for job in jobs:
            job.label = "job"
        groups = [Scheduler(job, label=str(place)) for place, job in enumerate(jobs)]
        again(virtual, file, lambda groups=groups: Scheduler(*groups))  # type: ignore[misc]
    found = ["" if job.restored else explanation_of(job) for job in jobs]
    assert [
        one
        for one, (_, _, said) in zip(found, CHANGES, strict=True)
        if not re.search(said or "^$", one)
    ] == []


start = object()


def test_explain_reports_that_a_job_was_restored(virtual: Virtual, file: Path) -> None:
    first = again(virtual, file, diamond)
    assert "it has no result in the journal" in explanation_of(next(iter(first)))
    second = again(virtual, file, diamond)
    assert (
        explanation_of(next(iter(second)))
        == "'a' was restored: the journal has its result"
    )


def test_debrief_lists_why_jobs_were_not_restored(virtual: Virtual, file: Path) -> None:
    """`debrief` lists why jobs were not restored, but only those that the journal had, not new ones."""

    def debrief_of(version: int, *more: Job[Any]) -> str:
        stream = io.StringIO()
        jobs = [
            Job(double, 1, label=str(number), version=version) for number in range(12)
        ]
        again(virtual, file, lambda: Scheduler(jobs, *more)).debrief(stream)
        return stream.getvalue()

    assert "journal" not in debrief_of(1)
    assert "journal" not in debrief_of(
        1, Job(double, 1, label="new"), Job(double, 2, label="kept", save=None)
    )
    text = debrief_of(2)
    assert (
        "12 jobs not restored from the journal:\n  0: its version has changed from 1 to 2\n"
        in text
    )
    assert "\n  and 2 more" in text


def test_a_job_that_was_tried_again_ran_because_of_that(
    virtual: Virtual, file: Path
) -> None:
    """Its result had just been dropped, and `why` said that there was none in the journal."""
    for _ in range(2):
        job = Job(double, 1, label="double")
        scheduler = Scheduler(
            job,
            on_job_settled=lambda job: job.try_again() if job.attempts < 2 else None,
        )
        virtual(lambda scheduler=scheduler: scheduler.co_run(journal=file))
        assert (job.attempts, job.restored) == (2, False)
        assert command_line.trioflow("journal", file, "why").stdout.endswith(
            "it was tried again in this run\n1 ran, 0 restored\n"
        )


def test_warning_lists_jobs_known_by_name_only(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning lists jobs of closures, lambdas, methods and objects, be it one of several with the same function."""

    class Called:
        async def __call__(self) -> None: ...

    number = 1

    async def closure() -> int:
        return number

    def build() -> Scheduler:
        bound, lambda_job = (
            Job(Adder(1).add, 1, label="bound"),
            Job(lambda: double(1), label="lambda"),
        )
        closures = [Job(closure, label=label) for label in "ab"]
        return Scheduler(
            closures, lambda_job, bound, Job(Called(), label="c"), Job(double, 1)
        )

    with caplog.at_level(logging.WARNING, "trioflow"):
        again(virtual, file, build)
    (message,) = [one for one in caplog.messages if "by name only" in one]
    assert "'a', 'b', 'lambda', 'bound', 'c';" in message


def test_the_order_of_keyword_arguments_makes_no_difference(
    virtual: Virtual, file: Path
) -> None:
    async def add(**numbers: int) -> int:
        return sum(numbers.values())

    def build(*names: str) -> Callable[[], Scheduler]:
        return lambda: Scheduler(
            Job(add, kwargs={name: len(name) for name in names}, label="add")
        )

    assert states(again(virtual, file, build("a", "bc"))) == {"add": "succeeded"}
    assert states(again(virtual, file, build("bc", "a"))) == {"add": "restored"}
    db = sqlite3.connect(file)
    db.create_function("checksum", -1, lambda *row: checksum(row))
    with db:
        db.execute(
            'UPDATE jobs SET fingerprint = replace(fingerprint, \'"a":"1","bc":"2"\', \'"bc":"2","a":"1"\')'
        )
        db.execute(
            "UPDATE jobs SET checksum = checksum(path, fingerprint, saved, result, large, outputs)"
        )
        assert db.execute("SELECT fingerprint LIKE '%bc%a%' FROM jobs").fetchone() == (
            1,
        )
    db.close()
    assert states(again(virtual, file, build("a", "bc"))) == {"add": "restored"}
    assert states(again(virtual, file, build("a", "bcd"))) == {"add": "succeeded"}


def nested(default: Any, *, more: Any = 1) -> Callable[..., Any]:
    async def work(value: Any = default, *, option: Any = more) -> Any:
        calls.append(value)
        return value

    return work


def test_an_unstorable_result_is_reported_once(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def unstorable() -> object:
        return object()

    with caplog.at_level(logging.WARNING, "trioflow"):
        scheduler = again(
            virtual,
            file,
            lambda: Scheduler(
                Job(unstorable, label="source"), Job(double, 1, label="a")
            ),
        )
    (message,) = [one for one in caplog.messages if "cannot store" in one]
    assert (
        "1 job, which will run again: 'source'; reason for the first: its result, a value of type builtins:object"
        in message
    )
    assert message in [one.message for one in incidents_of(scheduler)]
    second = again(
        virtual,
        file,
        lambda: Scheduler(Job(unstorable, label="source"), Job(double, 1, label="a")),
    )
    assert states(second) == {"source": "succeeded", "a": "restored"}
    assert "the journal could not store its result" in explanation_of(
        next(iter(second))
    )


def test_arguments_of_a_redacted_job_are_not_in_the_journal_file(
    virtual: Virtual, file: Path
) -> None:
    """Arguments of a job with `redact=True` are stored as a hash, however short; those of others are stored in full."""
    for restored in (False, True):
        jobs = [
            Job(hush, "secret", 918273, label="hush", redact=True),
            Job(hush, "known", 645546, label="told"),
        ]
        again(virtual, file, lambda jobs=jobs: Scheduler(*jobs))  # type: ignore[misc]
        assert [job.restored for job in jobs] == [restored, restored]
    stored = file.read_bytes()
    assert [word in stored for word in (b"secret", b"918273", b"known", b"645546")] == [
        False,
        False,
        True,
        True,
    ]


def test_neither_inputs_nor_results_of_a_redacted_job_are_shown(
    virtual: Virtual, file: Path
) -> None:
    """The names of its `reads=` stood in the journal as they are, and its result in the listing with details."""
    (file.parent / "SEKRET-in").touch()
    for restored in (False, True):
        job = trioflow.CommandJob(
            ["true"], reads=[file.parent / "SEKRET-in"], redact=True, label="hush"
        )
        token = Job(double, "SEKRET-out", label="token", redact=True)
        scheduler = again(
            virtual, file, lambda job=job, token=token: Scheduler(job, token)
        )  # type: ignore[misc]
        assert job.restored is restored
        assert "SEKRET" not in listing(scheduler, details=True)
    assert b"SEKRET-in" not in file.read_bytes()


async def hush(word: str, number: int) -> None: ...


# ---- how results are stored
class Opaque:
    def __init__(self, number: int) -> None:
        self.number = number


async def opaque() -> Opaque:
    return Opaque(3)


@pytest.mark.parametrize("save", ["pickle", (lambda one: one.number, Opaque)])
def test_save_stores_other_types_by_pickle_or_a_pair_of_functions(
    virtual: Virtual, file: Path, save: Any
) -> None:
    for restored in (False, True):
        job = Job(opaque, label="one", save=save)
        again(virtual, file, lambda job=job: Scheduler(job))  # type: ignore[misc]
        assert (job.result().number, job.restored) == (3, restored)
    for restored in (False, True):
        job = Job(opaque, label="other")
        again(virtual, Journal(file, save=save), lambda job=job: Scheduler(job))  # type: ignore[misc]
        assert (job.result().number, job.restored) == (3, restored)


PAIR = (lambda one: [one], operator.itemgetter(0))


@pytest.mark.parametrize("of_journal", ["json", "pickle", PAIR, None])
def test_save_option_of_a_job_overrides_that_of_the_journal(
    virtual: Virtual, file: Path, of_journal: Any
) -> None:
    journal = Journal(file, save=of_journal)
    options: list[Any] = ["default", "json", "pickle", PAIR, None]
    saves = [of_journal if option == "default" else option for option in options]

    def build() -> Scheduler:
        return Scheduler(
            *(
                Job(double, 1, label=str(number), save=option)
                for number, option in enumerate(options)
            )
        )

    again(virtual, journal, build)
    with contextlib.closing(sqlite3.connect(file)) as db:
        found = dict(db.execute("SELECT path, saved FROM jobs"))
    assert found == {
        str(n): "own" if save is PAIR else save
        for n, save in enumerate(saves)
        if save is not None
    }
    scheduler = again(virtual, journal, build)
    assert [job.restored for job in scheduler] == [save is not None for save in saves]
    assert {job.result() for job in scheduler} == {2}


def test_a_pickle_in_a_journal_is_not_loaded_without_save_pickle(
    virtual: Virtual, file: Path
) -> None:
    """A pickle is loaded only if this program allows it, since an attacker may have written the journal."""
    again(virtual, file, lambda: Scheduler(Job(double, 1, label="a")))
    db = sqlite3.connect(file)
    (path, fingerprint), data = (
        db.execute("SELECT path, fingerprint FROM jobs").fetchone(),
        pickle.dumps(Evil()),
    )
    right = checksum((path, fingerprint, "pickle", data, None, None))
    db.execute(
        "UPDATE jobs SET saved = 'pickle', result = ?, outputs = NULL, checksum = ?",
        (data, right),
    )
    db.commit()
    db.close()
    scheduler = again(virtual, file, lambda: Scheduler(Job(double, 1, label="a")))
    assert calls == [1]
    assert "stored as pickle" in explanation_of(next(iter(scheduler)))


STRANGE = [
    None,
    5,
    1.5,
    1e300,
    b"\0",
    "",
    "[",
    "[]",
    '{"$": "enum", "t": "os:system", "v": "a"}',
    "../../../dev/zero",
]


COLUMNS = [
    "fingerprint",
    "saved",
    "result",
    "large",
    "outputs",
    "run",
    "restored",
    "why",
    "took",
    "settled",
]
CELLS = [(column, strange) for column in COLUMNS for strange in STRANGE]


def job_of_each_cell() -> Scheduler:
    return Scheduler(
        *(Job(double, number, label=str(number)) for number in range(len(CELLS)))
    )


def fill_cells(virtual: Virtual, file: Path, then: str = "") -> None:
    """Record the jobs, put the strange value of each cell into the row of its job, and execute a statement."""
    again(virtual, file, job_of_each_cell)
    db = sqlite3.connect(file)
    db.create_function("checksum", -1, lambda *row: checksum(row))
    for number, (column, strange) in enumerate(CELLS):
        with contextlib.suppress(sqlite3.IntegrityError):  # the schema refuses it
            db.execute(
                f"UPDATE jobs SET {column} = ? WHERE path = ?", (strange, str(number))
            )
    db.execute(then)
    db.commit()
    db.close()


def test_a_run_survives_any_content_in_any_column_of_the_journal(
    virtual: Virtual, file: Path
) -> None:
    fill_cells(virtual, file)
    for words in ([], ["show", "*"], ["why"]):
        assert command_line.trioflow("journal", file, *words).exit_code == 0
    scheduler = again(virtual, file, job_of_each_cell)
    assert scheduler.stop_reason is StopReason.COMPLETED
    for number, job in enumerate(scheduler):
        assert job.result() == 2 * number or (
            job.restored and CELLS[number][0] == "result"
        )


def test_a_forged_column_with_a_right_checksum_is_not_used(
    virtual: Virtual, file: Path
) -> None:
    """A value of another type in a column, whose checksum is right, once raised a TypeError out of the run."""
    fill_cells(
        virtual,
        file,
        "UPDATE jobs SET checksum = checksum(path, fingerprint, saved, result, large, outputs)",
    )
    scheduler = again(virtual, file, job_of_each_cell)
    assert scheduler.stop_reason is StopReason.COMPLETED
    restored = [
        (number, *cell, job.result())
        for number, (cell, job) in enumerate(zip(CELLS, scheduler, strict=True))
        if job.restored
    ]
    for number, column, strange, result in restored:
        assert column != "fingerprint" or strange is None
        assert column == "result" or result == 2 * number


class Evil:
    def __reduce__(self) -> Any:
        return calls.append, ("evil",)


BYTES = os.fsdecode(b"not UTF-8: \x80")


STRANGE_OPTIONS: list[tuple[dict[str, Any], bool]] = [
    ({"label": BYTES}, True), ({"key": BYTES}, True), ({"version": BYTES}, True), ({"args": (BYTES,)}, True),
    ({"args": (2**70,)}, True), ({"args": (10**5000,)}, False), ({"version": 10**5000}, False), ({}, True),
]  # fmt: skip


def test_invalid_unicode_and_huge_numbers_do_not_stop_a_run(
    virtual: Virtual, file: Path
) -> None:
    """Labels may be invalid Unicode, and numbers may have more digits than Python prints, without stopping a run."""

    def build() -> Scheduler:
        scheduler = Scheduler(label=BYTES)
        for number, (options, _) in enumerate(STRANGE_OPTIONS):
            given = {"args": (1,), "label": f"job {number}"} | options
            scheduler.add(Job(double, *given.pop("args"), **given))
        return scheduler

    for _ in range(2):
        scheduler = again(virtual, file, build)
        assert scheduler.stop_reason is StopReason.COMPLETED
        assert command_line.trioflow("journal", file).exit_code == 0
    assert [job.restored for job in scheduler] == [
        is_restored for _, is_restored in STRANGE_OPTIONS
    ]


# ---- the run as a whole
def test_instruments_see_restored_jobs_finish_but_not_start(
    virtual: Virtual, file: Path
) -> None:
    events: list[str] = []

    watch = hooked(
        job_started=lambda _, job: events.append(f"start {job.label}"),
        job_settled=lambda _, job: events.append(f"end {job.label}"),
    )
    again(virtual, file, diamond)
    scheduler = diamond()
    virtual(partial(scheduler.co_run, journal=file, instruments=[watch]))
    assert sorted(events) == ["end a", "end b", "end c", "end d"]


def test_restoring_a_long_chain_does_not_block_the_event_loop(
    backend: str, file: Path
) -> None:
    """Restoring hundreds of jobs takes many turns of the event loop, so that other tasks run meanwhile."""

    def build() -> Scheduler:
        scheduler = Scheduler()
        last = None
        for number in range(500):
            last = scheduler.add(Job(double, number, label=str(number), required=last))
        return scheduler

    build().run(journal=file)
    ticks: list[int] = []
    scheduler = build()
    anyio.run(
        ticking,
        lambda: ticks.append(1),
        partial(scheduler.co_run, journal=file),
        backend=backend,
    )
    assert all(job.restored for job in scheduler)
    assert len(ticks) > 4


@pytest.mark.parametrize("durable", ["group", "each"])
def test_a_run_whose_journal_cannot_be_written_ends_critical(
    virtual: Virtual,
    file: Path,
    durable: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failed write to the journal makes the run CRITICAL, and the next run restores what was committed."""
    add, commits = JournalStore.add_records, 0

    def full(store: JournalStore, *rows: Any) -> None:
        nonlocal commits
        commits += 1
        if commits > 1:
            raise trioflow.JournalError("journal 'run.db': the disk is full")
        add(store, *rows)

    def build() -> Scheduler:
        scheduler = Scheduler()
        last = None
        for number in range(5):
            last = scheduler.add(Job(slow, number, label=str(number), required=last))
        return Scheduler(scheduler, label="outer")

    monkeypatch.setattr(JournalStore, "add_records", full)
    scheduler = build()
    assert not virtual(
        partial(scheduler.co_run, journal=Journal(file, durable=durable))
    )
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, None)
    assert "the disk is full" in incidents_of(scheduler)[0].message
    assert any("the disk is full" in one for one in caplog.messages)
    assert len(calls) < 4
    commits = 0
    with pytest.raises(trioflow.JournalError, match="the disk is full"):
        virtual(
            partial(build().co_run, journal=Journal(file, durable=durable), check=True)
        )
    monkeypatch.undo()
    scheduler = again(virtual, file, build)
    assert [job.restored for job in scheduler.iterate_jobs()][1:4] == [
        True,
        False,
        False,
    ]
    assert scheduler.stop_reason is StopReason.COMPLETED


async def slow(number: int) -> int:
    calls.append(number)
    await anyio.sleep(1)
    return number


def test_durable_group_commits_at_most_once_per_turn(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends in one turn is one commit, and the second turn has another."""
    add, commits = JournalStore.add_records, list[int]()

    def note(store: JournalStore, records: Any, *rows: Any) -> None:
        commits.append(len(records))
        add(store, records, *rows)

    monkeypatch.setattr(JournalStore, "add_records", note)
    first = [Job(anyio.sleep, 1, label=f"first {number}") for number in range(5)]
    second = [Job(anyio.sleep, 2, label=f"second {number}") for number in range(4)]
    assert virtual(partial(Scheduler(first, second).co_run, journal=file))
    assert commits == [5, 4]


def test_durable_each_commits_a_result_before_any_dependent_starts(
    virtual: Virtual, file: Path
) -> None:
    async def look(_: object) -> list[str]:
        return read_with_retry(
            file, lambda store: [one.path for one in store.job_records()]
        )

    job = Job(look, Job(double, 1, label="a"), label="look")
    virtual(partial(Scheduler(job).co_run, journal=Journal(file, durable="each")))
    assert job.result() == ["a"]


def test_a_cycle_in_the_scenario_does_not_leave_the_journal_open(
    virtual: Virtual, file: Path
) -> None:
    a = Job(double, 1)
    b = Job(double, 1, required=a)
    a.requires(b)
    with pytest.raises(ValueError, match="requires"):
        virtual(partial(Scheduler(a, b).co_run, journal=file))
    assert again(virtual, file, diamond).stop_reason is StopReason.COMPLETED


def test_jobs_are_restored_if_the_clock_is_back(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(virtual, file, diamond)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert set(states(again(virtual, file, diamond)).values()) == {"restored"}


def test_a_journal_option_that_is_neither_journal_nor_path_is_rejected() -> None:
    for journal in [5, object(), ["run.db"]]:
        with pytest.raises(
            TypeError, match="of 'Scheduler': give a Journal, or the path of one"
        ):
            Scheduler().run(journal=journal)


def test_unknown_values_of_durable_and_save_are_rejected() -> None:
    for options in [{"durable": "sometimes"}, {"save": "yaml"}, {"save": (1, 2)}]:
        with pytest.raises(ValueError, match="choose"):
            Journal("run.db", **options)
        if "save" in options:
            with pytest.raises(ValueError, match="choose"):
                Job(double, 1, **options)


def test_an_option_of_a_job_set_between_runs_applies_to_the_next_run(
    virtual: Virtual, file: Path
) -> None:
    changes = [
        ("save", None, False),
        ("key", "another", False),
        ("version", 2, False),
        ("label", "d", True),
    ]
    jobs = [Job(double, 2, label=label) for label in "abcd"]
    scheduler = Scheduler(*(Scheduler(job, label=job.label) for job in jobs))
    again(virtual, file, lambda: scheduler)
    for job, (name, value, _) in zip(jobs, changes, strict=True):
        setattr(job, name, value)
    again(virtual, file, lambda: scheduler)
    for job, (name, value, restored) in zip(jobs, changes, strict=True):
        assert (getattr(job, name), job.restored, job.result()) == (value, restored, 4)


def test_a_task_that_outlives_its_job_adds_jobs(
    virtual: Virtual, tmp_path: Path
) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:

            async def add_later() -> None:
                await anyio.sleep(1)
                scheduler.add(Job(double, 1, label="late"))

            async def start() -> None:
                tasks.start_soon(add_later)

            start_job, long = (
                Job(start, label="start", own_task=True),
                Job(anyio.sleep, 3, label="long"),
            )
            scheduler = Scheduler(start_job, long, journal=tmp_path / "run.db")
            assert await scheduler.co_run()
            assert calls == [1]

    virtual(main)


def test_only_a_job_that_a_journal_records_is_stored(
    virtual: Virtual, tmp_path: Path
) -> None:
    results: dict[str, bool] = {}

    async def ask() -> None:
        job = current_job()
        results[job.label] = run_of(job).stores(job)

    virtual(
        Scheduler(
            Job(ask, label="a"),
            Job(ask, label="b", save=None),
            journal=tmp_path / "run.db",
        ).co_run
    )
    virtual(Scheduler(Job(ask, label="c")).co_run)
    assert results == {"a": True, "b": False, "c": False}


def test_nothing_starts_in_a_forever_scheduler_after_its_journal_has_failed(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing journal stops the run that it failed in, too, if that is nested in a forever job."""
    monkeypatch.setattr(
        Recorder, "record", raising(trioflow.JournalError("the disk is full"))
    )
    first = Job(double, 1, label="first")
    behind = Job(double, 2, label="behind", required=first)
    scheduler = Scheduler(
        Scheduler(first, behind, forever=True),
        Job(anyio.sleep, 3, label="long"),
        journal=tmp_path / "run.db",
    )
    assert virtual(scheduler.co_run) is False
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert calls == [1]


def test_a_failed_job_is_not_stored(virtual: Virtual, tmp_path: Path) -> None:
    for _ in range(2):
        jobs = [
            Job(fail, save="json", label="json"),
            Job(fail, save="pickle", label="pickle"),
        ]
        scheduler = Scheduler(*jobs, journal=tmp_path / "run.db")
        assert not virtual(scheduler.co_run)
        assert [(job.state, job.restored) for job in jobs] == [
            (trioflow.JobState.FAILED, False)
        ] * 2
        assert list(incidents_of(scheduler)) == []


class PreparesOnce(JobKind[str]):
    async def co_run(self) -> str:
        if self.attempts == 1:
            run_of(self).prepare_result(self, "of the first attempt")
            raise OSError("broken")
        return "of the second attempt"


def test_what_one_attempt_has_prepared_is_not_stored_as_the_result_of_another(
    virtual: Virtual, file: Path
) -> None:
    for is_restored in (False, True):
        job = PreparesOnce(retry=1, label="job", key="job")
        assert virtual(partial(Scheduler(job).co_run, journal=file))
        assert (job.result(), job.restored) == ("of the second attempt", is_restored)


def test_a_listing_says_of_each_restored_job_that_it_was(
    virtual: Virtual, file: Path
) -> None:
    def build() -> Scheduler:
        return Scheduler(Job(give, 1, label="a"), Job(give, 2, label="b", save=None))

    for number in range(3):
        scheduler = build()
        assert virtual(partial(scheduler.co_run, journal=file))
        for details in (False, True):
            first, second = listing(scheduler, details=details).splitlines()
            assert ("restored" in first.split()) is bool(number), details
            assert "restored" not in second.split()
            assert ("-> 1" in first) is details


def test_a_file_as_an_earlier_writer_has_left_it_is_no_output_of_a_later_one(
    virtual: Virtual, file: Path, tmp_path: Path
) -> None:
    """Only a writer that waits for the job may have changed its output since."""
    output, copy, ran = tmp_path / "output", tmp_path / "copy", list[str]()

    async def write(text: str) -> None:
        ran.append(text)
        output.write_text(text)
        if text == "one":
            shutil.copy2(output, copy)

    def run() -> list[str]:
        ran.clear()
        first = Job(write, "one", label="first", writes=[output])
        second = Job(write, "second", label="second", writes=[output], required=first)
        assert virtual(partial(Scheduler(first, second).co_run, journal=file))
        return list(ran)

    assert run() == ["one", "second"]
    assert run() == []
    shutil.copy2(copy, output)
    assert "second" in run()
    assert output.read_text() == "second"
