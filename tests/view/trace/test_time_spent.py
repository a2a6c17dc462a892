"""Where the time went: sentence, table by family of job, and picture."""

import dataclasses
import re
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    Budget,
    CommandJob,
    Job,
    JobState,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Throttled,
    Trace,
)
from trioflow.view import TimeSpent, save
from trioflow.view._families import family_from_label
from trioflow.view.trace import _time_spent
from trioflow.view.trace._time_spent import compute_slot_use
from ...bodies import fail, flaky, later, nap, running
from ...conftest import Virtual
from .scenarios import NASTY, traced


def trainings(*seconds: float) -> list[Job[Any]]:
    return [
        Job(nap, one, label=f"train {place}", needs={"gpu": 1})
        for place, one in enumerate(seconds)
    ]


def five(virtual: Virtual) -> TimeSpent:
    jobs = trainings(3, 4, 5, 6, 7)
    report = Job(nap, 1, label="report", required=jobs)
    return traced(virtual, Scheduler(*jobs, report, pool=Pool(gpu=2))).time_spent()


def test_work_and_waits_of_jobs_add_up_to_their_time(virtual: Virtual) -> None:
    spent = five(virtual)
    assert (spent.seconds, spent.work, dict(spent.waits)) == (
        16,
        26,
        {"gpu": 15, "jobs": 15},
    )
    assert spent.work + sum(spent.waits.values()) == 3 + 4 + 8 + 10 + 15 + 16


@pytest.mark.parametrize("window", [None, 1, 2, 4, 9])
def test_work_and_empty_time_of_slots_add_up_to_the_run(
    virtual: Virtual, window: int | None
) -> None:
    jobs = [*trainings(3, 4, 5, 6, 7), Job(nap, 2, label="other")]
    last = Job(nap, 1, label="report", required=jobs)
    spent = traced(
        virtual, Scheduler(*jobs, last, pool=Pool(gpu=2)), jobs_window=window
    ).time_spent()
    assert spent.slots == {None: 3, 1: 1, 2: 2, 4: 4, 9: 6}[window]
    assert spent.work + sum(spent.empty.values()) == pytest.approx(
        spent.slots * spent.seconds
    )


def test_empty_slots_are_attributed_to_a_scarce_resource_or_to_a_lack_of_ready_jobs(
    virtual: Virtual,
) -> None:
    jobs = trainings(4, 4, 4)
    last = Job(nap, 2, label="report", required=jobs)
    spent = traced(
        virtual, Scheduler(*jobs, last, pool=Pool(gpu=1)), jobs_window=2
    ).time_spent()
    assert spent.empty == {"gpu ran short": 8, "nothing was ready": 6}
    assert str(spent) == (
        "2 slots for 14 s: 50 % working, 29 % empty because gpu ran short, 21 % empty because nothing was ready"
    )


def test_the_sentence_on_slots_leaves_out_tiny_shares(virtual: Virtual) -> None:
    spent = traced(
        virtual, Scheduler(trainings(0.002, 100), pool=Pool(gpu=1))
    ).time_spent()
    assert str(spent) == "one job at a time for 1 min 40 s: 100 % working"
    assert spent.waits["gpu"] == pytest.approx(0.002)


def test_each_column_of_the_table_has_one_unit(
    virtual: Virtual, tmp_path: Path
) -> None:
    """In the table of a report, a column has one unit, because milliseconds beside seconds would look like more."""
    jobs = trainings(0.002, 12)
    trace = traced(
        virtual,
        Scheduler(
            *jobs, Job(nap, 0.25, label="report", required=jobs), pool=Pool(gpu=1)
        ),
    )
    save(trace, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<th>waited for, s</th>" in page
    assert "<td>jobs&nbsp;12.00</td>" in page
    row = page[page.index("<bdi>train *</bdi>") :].partition("</tr>")[0]
    assert re.findall(r"[\d.]+", re.sub("<[^>]*>", " ", row)) == [
        "2",
        "12.00",
        "0.00",
        "0.00",
        "12.00",
        "0.00",
    ]


@pytest.mark.parametrize(
    ("label", "is_given", "family"),
    [
        ("train model 12", True, "train model *"), ("compile for x86", True, "compile for x86"),
        ("python3.11 tests", True, "python3.11 tests"), ("part_03 at 12:30", True, "part_* at *"),
        ("fetch-3.5 of 7", True, "fetch-* of *"), ("12", True, "*"), ("clean <3> of 4", True, "clean <*> of *"),
        ("fetch('a', 3)", False, "fetch"), ("gcc -c a.c", False, "gcc"), ("", True, ""),
    ],
)  # fmt: skip
def test_the_family_of_a_job_is_its_label_with_stars_for_numbers(
    label: str, is_given: bool, family: str
) -> None:
    assert family_from_label(label, is_given) == family


def test_throttled_attempts_count_as_work(virtual: Virtual) -> None:
    async def ask() -> None:
        await nap(1)
        if errors:
            raise errors.pop()

    errors = [OSError(), Throttled("api", after=5)]
    job = Job(ask, needs={"api": 1}, retry=Retry(1, first=3, jitter=False))
    spent = traced(virtual, Scheduler(job, pool=Pool(api=2))).time_spent()
    assert (spent.work, dict(spent.waits)) == (
        3,
        {"the throttle of api": 5, "a retry": 3},
    )


def test_a_nested_scheduler_counts_its_waits_but_not_its_work(virtual: Virtual) -> None:
    """A nested scheduler counts its waits but not its work, which is that of its jobs; forever jobs are left out. It is
    no family, which would have a time of 0 s in the table."""
    inner = Scheduler(
        Job(nap, 2, label="b"), label="inner", required=[a := Job(nap, 3, label="a")]
    )
    beside = Scheduler(Job(nap, 99), forever=True)
    spent = traced(
        virtual, Scheduler(a, inner, beside, Job(nap, 99, forever=True))
    ).time_spent()
    assert (spent.work, dict(spent.waits)) == (5, {"jobs": 3})
    assert {one.family for one in spent.families} == {"a", "b"}


def test_time_spent_without_a_run_is_empty() -> None:
    spent = Trace().time_spent()
    assert (str(spent), spent.families, spent.slots) == ("no job took any time", (), 0)


def test_labels_and_resource_names_are_escaped(
    virtual: Virtual, tmp_path: Path
) -> None:
    jobs = [Job(nap, 1, label=label, needs={"<b>&": 1}) for label in NASTY]
    trace = traced(virtual, Scheduler(*jobs, pool=Pool(**{"<b>&": 1})))
    save(trace, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(
        r"<(img|b>)",
        page.partition('<section id="timeline">')[2].partition("<script")[0],
    )
    assert "&lt;b&gt;&amp;" in page


def test_failures_and_commands_count_like_other_jobs(backend: Any) -> None:
    trace = Trace()
    jobs = [
        Job(fail, 0.01, label="bad"),
        CommandJob(["true"]),
        Job(nap, 0.01, needs={"api": 1}),
    ]
    rate = Rate(requests=100, per=1)
    Scheduler(*jobs, pool=Pool(api=rate)).run(backend=backend, instruments=[trace])
    spent = trace.time_spent()
    assert {one.family: one.count for one in spent.families} == {
        "bad": 1,
        "true": 1,
        "nap(0.01)": 1,
    }
    assert min(one.p50 for one in spent.families) > 0


def test_time_spent_during_a_run_counts_until_now(virtual: Virtual) -> None:
    trace = Trace()
    look = Job(later, 2, lambda: str(trace.time_spent()))
    virtual(Scheduler(look, Job(nap, 9), jobs_window=1, instruments=[trace]).co_run)
    assert look.result() == "1 slot for 2 s: 100 % working"


def test_a_backoff_that_goes_on_counts_until_now(virtual: Virtual) -> None:
    async def main() -> None:
        async with running(scheduler, 4, instruments=[trace]):
            found.append(
                [
                    (wait.words, wait.seconds)
                    for span in trace.spans
                    for wait in span.waits
                ]
            )

    trace, found = Trace(), list[Any]()
    scheduler = Scheduler(Job(flaky(1), retry=Retry(1, first=8, jitter=False)))
    virtual(main)
    assert found == [[("a retry", 3)]]


def test_a_family_of_which_no_job_ran_has_no_percentiles_and_unneeded_slots_are_named(
    virtual: Virtual,
) -> None:
    bad = Job(fail, 1, label="check")
    jobs = [
        *(Job(nap, 2, label=f"load {n}") for n in range(3)),
        *(Job(nap, 0, bad, label=f"use {n}") for n in range(5)),
    ]
    spent = traced(virtual, Scheduler(bad, *jobs, jobs_window=6)).time_spent()
    assert {
        family.family: (family.count, family.p50, family.p95)
        for family in spent.families
    } == {
        "load *": (3, 2.0, 2.0),
        "check": (1, 1.0, 1.0),
        "use *": (0, None, None),
    }
    assert str(spent).startswith("4 of 6 slots were used, for 2 s: 88 % working")


def test_a_slot_is_handed_over_although_the_clock_was_read_late(
    virtual: Virtual,
) -> None:
    record = traced(
        virtual, Scheduler(Job(nap, 1), Job(nap, 1), jobs_window=1)
    )._get_record()
    first, second = record.spans
    late = dataclasses.replace(first, finished_at=1.00002)
    use = compute_slot_use(dataclasses.replace(record, spans=(late, second)))
    assert (use.slot_count, [len(bars) for bars in use.bars_by_slot]) == (1, [2])


def test_a_critical_path_has_each_wait_of_a_job_before_its_start(
    virtual: Virtual,
) -> None:
    """Each wait before a job on the critical path has its own time there, which is the one that its family has, too.
    The last wait had the time of all, and a backoff between the attempts of a job that of its wait for a slot."""

    async def main() -> None:
        async with running(scheduler, 1.5, instruments=[trace]):
            scheduler.pause()
            await anyio.sleep(4)
            scheduler.resume()

    first = Job(nap, 1, label="first", needs={"api": {"calls": 1}})
    retry, needs = Retry(1, first=8, jitter=False), {"api": {"calls": 1}}
    last = Job(flaky(), retry=retry, label="last", needs=needs, required=first)
    trace, scheduler = (
        Trace(),
        Scheduler(first, last, pool=Pool(api=Rate(calls=1, per=2))),
    )
    virtual(main)
    parts = {
        part.name: part.seconds
        for part in _time_spent.critical_path_parts(trace._get_record())
        if part.is_wait
    }
    [family] = [each for each in trace.time_spent().families if each.family == "last"]
    assert parts == {"rate of api": 0.5, "a resume": 4, "a retry": 8}
    assert family.waits == {"jobs": 1, **parts}


def test_a_backoff_that_another_try_has_ended_is_over(virtual: Virtual) -> None:
    def again() -> None:
        job.cancel()
        job.try_again()

    job = Job(flaky(1), label="flaky", retry=Retry(1, first=9, jitter=False))
    jobs = [job, Job(nap, 5), Job(later, 2, again, forever=True)]
    spent = traced(virtual, Scheduler(*jobs), jobs_window=1).time_spent()
    [family] = [each for each in spent.families if each.family == "flaky"]
    assert dict(family.waits) == {"a retry": 1, "a slot": 4}


@pytest.mark.parametrize("budget", [9, 2])
def test_a_job_between_two_attempts_neither_works_nor_has_a_slot(
    virtual: Virtual, budget: int
) -> None:
    """After its backoff a job waits as others do, also if a spent budget then blocks it. That was part of its backoff;
    of a blocked job, all of it was work in a slot, which another job had."""
    retry = Retry(1, first=1, jitter=False)
    jobs = [
        Job(flaky(1), label="flaky", retry=retry),
        Job(nap, 5, label="one"),
        Job(nap, 5, label="two"),
    ]
    for job in jobs:
        job.needs = {"usd": 1}
    trace = traced(
        virtual, Scheduler(*jobs, pool=Pool(usd=Budget(budget))), jobs_window=1
    )
    spent, parts = (
        trace.time_spent(),
        _time_spent.critical_path_parts(trace._get_record()),
    )
    is_blocked = jobs[0].state is JobState.BLOCKED
    waits = {"a slot": 4 if is_blocked else 9, "a retry": 1}
    [family] = [each for each in spent.families if each.family == "flaky"]
    assert (is_blocked, spent.slots, dict(spent.empty)) == (budget == 2, 1, {})
    assert (family.work, dict(family.waits)) == (1 if is_blocked else 2, waits)
    assert {part.name: part.seconds for part in parts} == {
        "flaky": family.work,
        **waits,
    }


def test_the_wait_of_a_group_is_on_the_critical_path_of_its_jobs(
    virtual: Virtual,
) -> None:
    """If the first job of a nested scheduler is on the critical path, what its scheduler waited for is there, too. It
    was said to be the event loop."""
    first = Job(nap, 1, label="first", needs={"api": {"calls": 1}})
    inner = Scheduler(Job(nap, 2, label="job"), label="inner")
    group = Scheduler(inner, label="group", needs={"api": {"calls": 1}}, required=first)
    trace = traced(
        virtual, Scheduler(first, group, pool=Pool(api=Rate(calls=1, per=5)))
    )
    parts = [
        (part.name, part.seconds)
        for part in _time_spent.critical_path_parts(trace._get_record())
    ]
    assert parts == [("rate of api", 4), ("group/inner/job", 2), ("first", 1)]


def test_the_wait_of_a_group_for_another_try_is_on_the_critical_path_of_a_run(
    virtual: Virtual,
) -> None:
    """In a paused run, all the time since the group had failed was said to be a wait for a resume."""
    trace = Trace()
    parts = list[tuple[str, float]]()

    async def steer() -> None:
        await anyio.sleep(4)
        scheduler.pause()
        await anyio.sleep(1)
        group.try_again()
        await anyio.sleep(2)
        record = trace._get_record()
        for part in _time_spent.critical_path_parts(record):
            parts.append((part.name, part.seconds))
        scheduler.cancel()

    group = Scheduler(Job(fail, 1, label="bad"), label="group", critical=False)
    scheduler = Scheduler(group, Job(steer, label="steer"), instruments=[trace])
    virtual(scheduler.co_run)
    assert parts == [("another try", 4), ("a resume", 2), ("group/bad", 1)]
