"""Pages of runs of all kinds: counts add up, and a saved report is that of the run, or says what it lacks."""

import dataclasses
import difflib
import json
import re
import subprocess
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import CommandJob, Job, JobState, Pool, Scheduler, Trace, current_job
from trioflow._core.words._run_view import runs_in_progress, try_again
from trioflow.abc import Instrument
from trioflow.view.look._console import WatchedRun, console
from trioflow.view.look._watch import Watch
from trioflow.view.text._verdict import Tally
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report import _report
from trioflow.view.trace.report._report import report_html
from ...bodies import flaky, later, nap
from ...conftest import Virtual
from ...places import ROOT
from ..kinds_of_runs import KINDS, plain

pytestmark = pytest.mark.usefixtures("no_dot")


class Page:
    """A page in the same process, which is opened in the middle of a run, and then asks once a second."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.run = WatchedRun()
        self._scheduler = scheduler

    async def ask(self) -> None:
        await anyio.sleep(1.5)
        self._watch = Watch(runs_in_progress()[0])
        while True:
            self.look()
            shown = console(self.run, "", has_ended=False)
            tally = Tally.for_scheduler(self._scheduler)
            assert (
                sum(count for _, _, count, _ in shown["counts"])
                == shown["count"]
                == tally.job_count
            )
            assert shown["settled"] == tally.settled_count
            ready = sum(
                job.state is JobState.SCHEDULED
                for job in self._scheduler.iterate_jobs()
            )
            assert (
                sum(count for _, _, count, *_ in shown["waiting"])
                + shown["unexplained"]
                == ready
            )
            await anyio.sleep(1)

    def look(self) -> None:
        self.run.update(
            json.loads(json.dumps({"may_steer": False, **self._watch.answer()}))
        )


def without_date(record: TraceRecord) -> TraceRecord:
    return dataclasses.replace(
        record, wall_offset=0.0
    )  # virtual time goes faster than that of the day


def differences(report: str, other: str) -> list[str]:
    lines = difflib.unified_diff(
        report.splitlines(), other.splitlines(), n=0, lineterm=""
    )
    return [line[:2000] for line in lines][2:]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_saved_from_a_page_is_that_of_the_run(
    virtual: Virtual, tmp_path: Path, kind: str
) -> None:
    """If jobs may be missing, it says so, and has neither shares of the time nor families, waits and timeline. The page
    of a batch once said that half of the slots were empty because nothing was ready: they were busy."""
    scheduler, trace = KINDS[kind](), Trace()
    page = Page(scheduler)
    scheduler.add(Job(page.ask, forever=True, label="who asks"))
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    assert not [
        job
        for job in scheduler.iterate_jobs()
        if isinstance(job.raised_exception(), AssertionError)
    ]
    page.look()
    lacks = page.run.lacks(page.run.counted())
    saved = report_html(without_date(page.run.record()), tmp_path, lacks=lacks)
    if scheduler.keep_jobs:
        whole = report_html(without_date(trace._get_record()), tmp_path)
        assert (lacks, differences(whole, saved)) == ("", [])
    else:
        assert "drops jobs" in lacks
        assert lacks in saved
        assert not re.search(
            '% (working|empty)|Families of jobs|class="bar|waited [0-9]',
            saved.partition("<main>")[2],
        )
        assert console(page.run, "", has_ended=True)["lacks"] == lacks


def test_a_page_numbers_the_runs_of_a_group_in_a_group_that_is_retried_as_a_trace(
    virtual: Virtual,
) -> None:
    """The second run of the group in it was its third on the page, and its first in the trace."""
    first = Job(nap, 3, label="first")
    inner = Scheduler(Job(nap, 2, label="x"), label="inner", required=first)
    bad = Job(flaky(1), label="bad", required=inner)
    scheduler = Scheduler(
        Scheduler(first, inner, bad, label="outer", retry=1), label="night"
    )
    page, trace = Page(scheduler), Trace()
    scheduler.add(Job(page.ask, forever=True, label="who asks"))
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    page.look()
    names = {span.name for span in page.run.record().spans}
    assert names <= {span.name for span in trace.spans}


def test_a_report_of_commands_is_that_of_the_run(backend: Any, tmp_path: Path) -> None:
    """Outputs, exit codes and processor times of commands, too."""
    commands = [
        CommandJob(
            f"echo {n}; exit {n % 2}",
            shell=True,
            stdout=subprocess.PIPE,
            label=f"c{n}",
            critical=False,
        )
        for n in range(4)
    ]
    scheduler, trace, watched = (
        Scheduler(commands, label="night"),
        Trace(),
        WatchedRun(),
    )

    async def watch() -> None:
        watches.append(Watch(runs_in_progress()[0]))
        watched.update(
            json.loads(json.dumps({"may_steer": False, **watches[0].answer()}))
        )

    watches: list[Watch] = []
    scheduler.add(Job(watch, label="watch"))
    scheduler.run(backend=backend, instruments=[trace])
    watched.update(json.loads(json.dumps({"may_steer": False, **watches[0].answer()})))
    whole = report_html(trace._get_record(), tmp_path)
    assert differences(whole, report_html(watched.record(), tmp_path)) == []


def test_statistics_are_in_reports_and_pages(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example in CONTRIBUTING.md works as it stands there: one function, in one file."""
    text = (
        (ROOT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .partition("**A statistic of a run**")[2]
    )
    names = dict(vars(_report))
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    facts = _report.run_facts
    monkeypatch.setattr(
        _report,
        "run_facts",
        lambda record: [*facts(record), names["slowest_job"](record)],
    )
    scheduler, trace = plain(), Trace()
    page = Page(scheduler)
    scheduler.add(Job(page.ask, forever=True, label="who asks"))
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    page.look()
    for record in (trace._get_record(), page.run.record()):
        assert "slowest job" in (html := report_html(record, tmp_path))
        assert re.search("job 11, 1[.]6", html)


def test_what_waits_behind_a_long_line_of_another_scheduler_is_shown(
    virtual: Virtual,
) -> None:
    """A page explains a limited number of waits, once only those of the first scheduler that has so many."""
    told: list[Any] = []

    def group(label: str, count: int, **options: Any) -> Scheduler:
        return Scheduler(
            [
                Job(anyio.sleep, 60, label=f"{label} {n}", **options)
                for n in range(count)
            ],
            label=label,
        )

    async def ask() -> None:
        await anyio.sleep(1)
        run = WatchedRun()
        run.update(
            json.loads(
                json.dumps(
                    {"may_steer": False, **Watch(runs_in_progress()[0]).answer()}
                )
            )
        )
        told.append(console(run, "", has_ended=False))

    mirror, build = (
        group("mirror", 250, needs={"line": 1}),
        group("build", 300, needs={"licence": 1}),
    )
    virtual(
        Scheduler(
            mirror, build, Job(ask), pool=Pool(line=1, licence=1), timeout=2
        ).co_run
    )
    (shown,) = told
    assert [
        (count, text.partition(":")[0]) for _, _, count, _, text, *_ in shown["waiting"]
    ] == [
        (100, "wait for line"),
        (100, "wait for licence"),
    ]
    assert shown["unexplained"] == 249 + 299 - 200


@pytest.mark.parametrize(
    "step", [1, pytest.param(0.5, marks=pytest.mark.ci)], ids=["few", "many"]
)
def test_after_any_two_looks_the_ends_on_a_page_are_those_of_the_jobs(
    virtual: Virtual, step: float
) -> None:
    """Between two looks a job may fail again, begin or succeed, and a group, too: each page has what is so now.

    The third look, after the run, found a job as FAILED that had been tried again since the second."""

    async def flaky() -> None:
        await nap(1)
        if current_job().attempts < 4:
            raise OSError

    async def try_again() -> None:
        for _ in range(5):
            await anyio.sleep(1.125)
            scheduler.try_again()

    def look(run: WatchedRun, watch: Watch) -> None:
        run.update(json.loads(json.dumps({"may_steer": False, **watch.answer()})))
        shown = {
            facts.span.path: (facts.span.state, facts.span.finished_at)
            for _, facts in run.jobs.values()
        }
        found.append(
            {
                job.path
                for job in jobs_at_any_depth
                if shown[job.path] != (job.state, job.finished_at)
            }
        )

    async def watch(first: int) -> None:
        await anyio.sleep(looks[first])
        pages = [(WatchedRun(), Watch(runs_in_progress()[0])) for _ in looks[first:]]
        all_pages.extend(pages)
        for page in pages:
            look(*page)
        for moment, page in zip(looks[first + 1 :], pages, strict=False):
            await anyio.sleep(moment - anyio.current_time())
            look(*page)

    looks = [number * step + 0.0625 for number in range(round(7 / step))]
    found, all_pages = list[set[str]](), list[tuple[WatchedRun, Watch]]()
    group = Scheduler(
        Job(flaky, label="in"), Job(nap, 2, label="beside"), label="group"
    )
    jobs = [
        Job(flaky, label="flaky"),
        group,
        Job(nap, required=group, label="after"),
        Job(try_again, label="again"),
    ]
    watchers = [Job(watch, number, forever=True) for number in range(len(looks) - 1)]
    scheduler = Scheduler(jobs, watchers, log=False)
    jobs_at_any_depth = [*scheduler.iterate_jobs()]
    virtual(scheduler.co_run)
    for page in all_pages:
        look(*page)
    assert len(found) > len(looks) ** 2 / 2
    assert [paths for paths in found if paths] == []


def test_a_page_that_has_seen_a_job_cancelled_sees_that_it_waits_again(
    virtual: Virtual,
) -> None:
    """What follows a success that is taken back is put back as it has ended, later than the word is logged."""
    run, watches, found = WatchedRun(), list[Watch](), list[set[str]]()

    class Eager(Instrument):
        def before_run(self, scheduler: Any) -> None:
            watches.append(Watch(runs_in_progress()[0]))

        def job_settled(self, scheduler: Any, job: Any) -> None:
            run.update(
                json.loads(json.dumps({"may_steer": False, **watches[0].answer()}))
            )
            shown = {
                facts.span.path: facts.span.state for _, facts in run.jobs.values()
            }
            found.append(
                {each.path for each in scheduler if shown[each.path] is not each.state}
            )

    collect = Job(nap, 1, label="collect")
    upload = Job(nap, 9, label="upload", required=collect)
    scheduler = Scheduler(collect, upload, instruments=[Eager()])
    scheduler.add(
        Job(later, 3, lambda: try_again([collect], cancels=True), label="mend")
    )
    virtual(scheduler.co_run)
    assert (upload.attempts, found) == (2, [set()] * 5)
