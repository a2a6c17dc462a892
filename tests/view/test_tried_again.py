"""Views of a run in which failed jobs are tried again: each end of a job is told, and the last one counts."""

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
import anyio
import pytest
from trioflow import Events, Job, JUnit, Monitor, Retry, Scheduler, Trace
from trioflow._core.words._job_queries import attempt_mark
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view.look._console import WatchedRun
from trioflow.view.look._watch import Watch
from ..conftest import Virtual

pytestmark = pytest.mark.both_backends


class Scene:
    """A group with a job that fails twice, and a job that both it and that group have blocked, tried again twice."""

    def __init__(self) -> None:
        self.calls = 0
        self.one, self.bad = Job(anyio.sleep, 1, label="one"), Job(self.fail, label="bad")
        deep = Scheduler(Job(anyio.sleep, 1, label="deep"), label="deeper")
        kept = Scheduler(Job(anyio.sleep, 1, label="nap"), deep, label="kept")
        inner = Scheduler(Job(anyio.sleep, 2, label="two"), self.bad, label="inner")
        self.group = Scheduler(self.one, kept, inner.requires(self.one), label="group")
        self.after = Job(anyio.sleep, 1, required=self.group, label="after")
        self.scheduler = Scheduler(self.group, self.after, Job(self.mend, label="mend"), label="scene")

    async def fail(self) -> None:
        self.calls += 1
        await anyio.sleep(1)
        if self.calls < 3:
            raise OSError("disk full")

    async def mend(self) -> None:
        for _ in range(2):
            await anyio.sleep(9)
            self.scheduler.try_again()


def test_the_second_try_is_an_attempt_of_the_same_row(virtual: Virtual) -> None:
    """A group that is tried again keeps its row, and so do its jobs; what had been BLOCKED is remembered as that."""
    scene, trace = Scene(), Trace()
    assert virtual(lambda: scene.scheduler.co_run(instruments=[trace]))
    spans = {span.path: span for span in trace.spans}
    assert len(spans) == len(trace.spans) == 11
    for path in ("group", "group/inner", "group/inner/bad"):
        ends = [(number, when) for number, when, _ in spans[path].failed_attempts]
        first = 0 if path == "group" else 1
        assert (spans[path].attempts, spans[path].finished_at) == ((first, 9, 18), 19)
        assert ends == [(1, {"group": 3, "group/inner": 3, "group/inner/bad": 2}[path]), (2, 10)]
    assert [(number, when) for number, when, _ in spans["after"].failed_attempts] == [(0, 3), (0, 10)]
    assert "RequirementFailed" in spans["after"].failed_attempts[0][2]
    assert (spans["group/one"].attempts, spans["group/kept/deeper/deep"].finished_at) == ((0,), 1)


def test_a_page_knows_the_attempt_of_each_job(virtual: Virtual) -> None:
    """A job that was blocked in the run of its group before is in its first attempt."""
    scene = Scene()
    scene.calls = 1
    bad = Job(scene.fail, label="bad")
    user = Job(anyio.sleep, 9, required=bad, label="user")
    scheduler = Scheduler(Scheduler(bad, user, label="group"), label="night")

    async def look() -> None:
        (run,) = runs_in_progress()
        watch, watched = Watch(run), WatchedRun()
        for _ in range(2):
            await anyio.sleep(2)
            watched.update(json.loads(json.dumps(watch.answer(), default=str)))
            scheduler.try_again()
        marks = {job.path: (attempt_mark(job), watched.attempt_mark(live.key)) for job, live in watch._jobs.items()}
        assert marks["group/user"] == ("1.2", "1.2")
        assert marks["group/bad"] == ("2.2", "2.2")

    scheduler.add(Job(look, label="look"))
    assert virtual(lambda: scheduler.co_run())


def test_events_tell_each_end_of_a_job(virtual: Virtual, tmp_path: Path) -> None:
    scene = Scene()
    assert virtual(lambda: scene.scheduler.co_run(instruments=[Events(tmp_path / "events")]))
    told: defaultdict[str, list[str]] = defaultdict(list)
    for line in (tmp_path / "events").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] in ("job_settled", "job_reopened"):
            told[event["path"]].append(event.get("state", "reopened"))
    assert told["group"] == ["failed", "reopened", "failed", "reopened", "succeeded"]
    assert told["after"] == ["blocked", "reopened", "blocked", "reopened", "succeeded"]
    assert (told["group/inner/bad"], told["group/one"]) == (told["group"], ["succeeded"])


def test_a_job_that_failed_before_it_succeeded_is_flaky_for_ci(virtual: Virtual, tmp_path: Path) -> None:
    """It has passed, with its failures beside; the others have passed once."""
    scene, path = Scene(), tmp_path / "junit.xml"
    assert virtual(lambda: scene.scheduler.co_run(instruments=[JUnit(path)]))
    cases: dict[Any, Any] = {case.get("name"): case for case in ElementTree.parse(path).iter("testcase")}
    assert sorted(cases) == ["after", "bad", "deep", "mend", "nap", "one", "two"]
    assert [each.get("message") for each in cases["bad"].iter("flakyFailure")] == ["OSError: disk full"] * 2
    assert not [name for name, case in cases.items() if name != "bad" and [*case]]


def test_the_monitor_counts_the_last_end_of_each_job(virtual: Virtual) -> None:
    scene, shown = Scene(), io.StringIO()
    monitor = Monitor(file=shown)
    assert virtual(lambda: scene.scheduler.co_run(instruments=[monitor]))
    assert "all 7 jobs succeeded" in shown.getvalue().splitlines()[-1]
    assert "1 failed" not in shown.getvalue().splitlines()[-1]


def test_the_monitor_shows_a_second_try_in_a_scheduler_that_drops_jobs(virtual: Virtual) -> None:
    """Such a scheduler keeps the first failures. The monitor once knew the job no more, and left the run."""
    tries, shown = iter("12"), io.StringIO()

    async def fails_once() -> None:
        if next(tries) == "1":
            raise OSError("first")

    async def grow() -> None:
        scheduler.add(Job(fails_once, label="bad"))
        await anyio.sleep(1)
        scheduler.try_again()

    scheduler = Scheduler(Job(grow, label="grow"), keep_jobs=False)
    assert virtual(lambda: scheduler.co_run(instruments=[Monitor(file=shown)]))
    assert "all 2 jobs succeeded" in shown.getvalue().splitlines()[-1]


def test_what_a_job_took_does_not_depend_on_what_it_requires_being_tried_again(virtual: Virtual) -> None:
    """A job that runs because of a failure has ended when that is tried again: it has not waited for the second end."""
    scene, trace = Scene(), Trace()
    tidy = Job(scene.fail, label="tidy", required=scene.group, run_if="failed", retry=Retry(1, first=2, jitter=False))
    scene.scheduler.add(tidy)
    assert virtual(lambda: scene.scheduler.co_run(instruments=[trace]))
    span = next(span for span in trace.spans if span.path == "tidy")
    assert (span.scheduled_at, span.started_at, span.elapsed, span.took) == (3, 3, 4, 2)
