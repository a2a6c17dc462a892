"""Views of a run in which failed jobs are tried again: each end of a job is told, and the last one counts."""

import csv
import io
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
import anyio
import pytest
from trioflow import Events, Job, JUnit, Monitor, Retry, Scheduler, Trace
from trioflow._core.words._job_queries import attempt_mark
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view import save
from trioflow.view.look._client import text_lines
from trioflow.view.look._console import WatchedRun, console, describe_job
from trioflow.view.look._job_search import _row
from trioflow.view.look._process_record import describe_process
from trioflow.view.look._watch import Watch
from trioflow.view.trace._timeline import tooltip_lines
from trioflow.view.trace._trace_file import read_record
from trioflow.view.trace.report._report import report_html
from ..conftest import Virtual
from .agreement import Recorded

pytestmark = [pytest.mark.both_backends, pytest.mark.usefixtures("no_dot")]


class Scene:
    """A group with a job that fails twice, and a job that both it and that group have blocked, tried again twice."""

    def __init__(self) -> None:
        self.calls = 0
        self.one, self.bad = (
            Job(anyio.sleep, 1, label="one"),
            Job(self.fail, label="bad"),
        )
        deep = Scheduler(Job(anyio.sleep, 1, label="deep"), label="deeper")
        kept = Scheduler(Job(anyio.sleep, 1, label="nap"), deep, label="kept")
        inner = Scheduler(Job(anyio.sleep, 2, label="two"), self.bad, label="inner")
        self.group = Scheduler(self.one, kept, inner.requires(self.one), label="group")
        self.after = Job(anyio.sleep, 1, required=self.group, label="after")
        self.scheduler = Scheduler(
            self.group, self.after, Job(self.mend, label="mend"), label="scene"
        )

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
        assert ends == [
            (1, {"group": 3, "group/inner": 3, "group/inner/bad": 2}[path]),
            (2, 10),
        ]
    assert [(number, when) for number, when, _ in spans["after"].failed_attempts] == [
        (0, 3),
        (0, 10),
    ]
    assert "RequirementFailed" in spans["after"].failed_attempts[0][2]
    assert (
        spans["group/one"].attempts,
        spans["group/kept/deeper/deep"].finished_at,
    ) == ((0,), 1)


def test_a_trace_that_is_read_during_the_second_try_of_a_group_has_its_jobs_as_they_are(
    virtual: Virtual,
) -> None:
    """The end of the first try once stood for that of the second: what ran was waiting, as the trace had it."""
    scene, trace = Scene(), Trace()
    seen = dict[str, str]()

    async def look() -> None:
        await anyio.sleep(9.5)
        seen.update((span.path, span.state) for span in trace.spans)

    scene.scheduler.add(Job(look, label="look"))
    assert virtual(lambda: scene.scheduler.co_run(instruments=[trace]))
    assert seen["group"] == seen["group/inner"] == seen["group/inner/bad"] == "running"
    assert seen["group/one"] == "succeeded"
    assert seen["after"] == "idle"


def test_a_job_has_been_ready_since_it_was_tried_again(virtual: Virtual) -> None:
    """A look at a run whose loop was blocked said that it had been ready since it had failed."""
    scene = Scene()
    texts: dict[str, str] = {}

    async def look() -> None:
        await anyio.sleep(8)
        scene.scheduler.try_again()
        (run,) = describe_process()["runs"]
        texts.update((row["paths"][0], row["explanation"]) for row in run["waiting"])

    scene.scheduler.add(Job(look, label="look"))
    virtual(lambda: scene.scheduler.co_run())
    ready = "is ready, but 'look' blocks the event loop; it has been ready for 0 s"
    assert texts["group"] == ready


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
        marks = {
            job.path: (attempt_mark(job), watched.attempt_mark(live.key))
            for job, live in watch._jobs.items()
        }
        assert marks["group/user"] == ("1.2", "1.2")
        assert marks["group/bad"] == ("2.2", "2.2")

    scheduler.add(Job(look, label="look"))
    assert virtual(lambda: scheduler.co_run())


def test_events_tell_each_end_of_a_job(virtual: Virtual, tmp_path: Path) -> None:
    """And that it was added once, however often it is tried."""
    scene = Scene()
    assert virtual(
        lambda: scene.scheduler.co_run(instruments=[Events(tmp_path / "events")])
    )
    told: defaultdict[str, list[str]] = defaultdict(list)
    for line in (tmp_path / "events").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] in ("job_added", "job_settled", "job_reopened"):
            told[event["path"]].append(event.get("state", event["event"][4:]))
    for path, state in ("group", "failed"), ("after", "blocked"):
        tries = [state, "reopened", state, "reopened", "succeeded"]
        assert told[path] == ["added", *tries]
    assert told["group/inner/bad"] == told["group"]
    assert told["group/one"] == ["added", "succeeded"]


def test_a_job_that_failed_before_it_succeeded_is_flaky_for_ci(
    virtual: Virtual, tmp_path: Path
) -> None:
    """It has passed, with its failures beside; the others have passed once."""
    scene, path = Scene(), tmp_path / "junit.xml"
    assert virtual(lambda: scene.scheduler.co_run(instruments=[JUnit(path)]))
    cases: dict[Any, Any] = {
        case.get("name"): case for case in ElementTree.parse(path).iter("testcase")
    }
    assert sorted(cases) == ["after", "bad", "deep", "mend", "nap", "one", "two"]
    assert [each.get("message") for each in cases["bad"].iter("flakyFailure")] == [
        "OSError: disk full"
    ] * 2
    assert not [name for name, case in cases.items() if name != "bad" and [*case]]


def test_the_monitor_counts_the_last_end_of_each_job(virtual: Virtual) -> None:
    scene, shown = Scene(), io.StringIO()
    monitor = Monitor(file=shown)
    assert virtual(lambda: scene.scheduler.co_run(instruments=[monitor]))
    assert "all 7 jobs succeeded" in shown.getvalue().splitlines()[-1]
    assert "1 failed" not in shown.getvalue().splitlines()[-1]


def test_the_monitor_shows_a_second_try_in_a_scheduler_that_drops_jobs(
    virtual: Virtual,
) -> None:
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


def test_what_a_job_took_does_not_depend_on_what_it_requires_being_tried_again(
    virtual: Virtual,
) -> None:
    """A job that runs because of a failure has ended when that is tried again: it has not waited for the second end."""
    scene, trace = Scene(), Trace()
    tidy = Job(
        scene.fail,
        label="tidy",
        required=scene.group,
        run_if="failed",
        retry=Retry(1, first=2, jitter=False),
    )
    scene.scheduler.add(tidy)
    assert virtual(lambda: scene.scheduler.co_run(instruments=[trace]))
    span = next(span for span in trace.spans if span.path == "tidy")
    assert (span.scheduled_at, span.started_at, span.elapsed, span.took) == (3, 3, 4, 2)


class SecondTry:
    """A member that runs twice because its group does: by `retry`, as a whole, or for the sake of the member."""

    def __init__(self, how: str, folder: Path) -> None:
        self.how, self.calls, self.shown = how, 0, dict[str, str]()
        self.member, beside = (
            Job(self.work, label="member"),
            Job(self.fail, label="beside"),
        )
        self.group = Scheduler(
            self.member, beside, label="group", retry=1 if how == "retry" else 0
        )
        self.scheduler = Scheduler(
            self.group, Job(self.look, label="look"), label="scene"
        )
        self.recorded = Recorded(folder)

    async def work(self) -> None:
        self.calls += 1
        await anyio.sleep(4)

    async def fail(self) -> None:
        await anyio.sleep(5)
        if self.calls == 1 and self.how == "retry":
            raise OSError

    async def look(self) -> None:
        (run,) = runs_in_progress()
        watch, watched = Watch(run), WatchedRun()
        watched.update(json.loads(json.dumps(watch.answer(), default=str)))
        await anyio.sleep(6)
        if self.how != "retry":
            (self.group if self.how == "group" else self.member).try_again()
        await anyio.sleep(1)
        watched.update(json.loads(json.dumps(watch.answer(), default=str)))
        page = console(watched, "", has_ended=False)
        key = watch._jobs[self.member].key
        job = dict(describe_job(watched, key, {})["facts"])
        found = _row(watched, watched.jobs[key][1].span)
        look = text_lines(
            1, {"command": ["x"], "runs": describe_process()["runs"]}, 120
        )
        self.shown = {
            "explain": self.scheduler.explain(self.member),
            "look": "\n".join(look).partition("group/member")[2].partition("group/")[0],
            "page, running": str([row for row in page["running"] if row[0] == key]),
            "page, job": f"attempt {job['attempts']}",
            "page, search": str(found),
            "page, mark": f"attempt {page['marks'][key]}",
        }


@pytest.mark.parametrize("how", ["retry", "group", "member"])
def test_a_member_in_the_second_try_of_its_group_is_in_attempt_2_in_each_view(
    virtual: Virtual, tmp_path: Path, how: str
) -> None:
    """A trace has a span for each run of a group that `retry` repeats: the second one begins with attempt 2."""
    scene = SecondTry(how, tmp_path)
    recorded = scene.recorded
    assert virtual(
        lambda: scene.scheduler.co_run(
            instruments=[*recorded.instruments, recorded.events, recorded.monitor]
        )
    )
    for view, text in scene.shown.items():
        assert "attempt 2" in text, (view, text)
    monitor = [
        line for line in recorded.log.getvalue().splitlines() if "group/member" in line
    ]
    assert [line for line in monitor if "attempt 2" in line], monitor
    events = [json.loads(line) for line in recorded.lines.getvalue().splitlines()]
    ends = [
        event
        for event in events
        if event.get("path") == "group/member" and event["event"] == "job_settled"
    ]
    assert [event.get("attempts", 1) for event in ends] == [1, 2]
    otel = [
        span for span in recorded.spans.get_finished_spans() if span.name == "member"
    ]
    assert otel[-1].attributes["trioflow.attempts"] == 2
    cases = {
        case.get("name"): case
        for case in ElementTree.parse(recorded.junit.path).iter("testcase")
    }
    assert len(list(cases["beside"].iter("flakyFailure"))) == (how == "retry")
    file = tmp_path / "t.json"
    save(recorded.trace, file)
    for record in (recorded.trace._get_record(), read_record(file)):
        spans = [span for span in record.spans if span.path == "group/member"]
        assert spans[-1].last_attempt == scene.member.attempts == 2
        assert len(spans) == (2 if how == "retry" else 1)
        assert {"attempt 2", "2 attempts"} & {*tooltip_lines(record, spans[-1])}
        (data,) = re.findall(
            r' id="data">(.*?)</script>', report_html(record, tmp_path), re.DOTALL
        )
        rows = [
            row for row in json.loads(data)["rows"] if row[0].startswith("group/member")
        ]
        assert [row[6] for row in rows][-1] == 2, rows
    slices = [
        event
        for event in json.loads(file.read_text())["traceEvents"]
        if event["ph"] == "X"
    ]
    attempts = [
        event["args"].get("attempts")
        for event in slices
        if event["args"].get("path") == "group/member"
    ]
    assert attempts[-1] == 2
    assert "attempt 2" in [event["name"] for event in slices]
    save(recorded.trace, tmp_path / "t.csv")
    csv_rows = [*csv.DictReader((tmp_path / "t.csv").read_text().splitlines())]
    assert [row["attempts"] for row in csv_rows if row["path"] == "group/member"][
        -1
    ] == "2"


def test_what_was_taken_back_and_did_not_run_again_keeps_its_attempts(
    virtual: Virtual,
) -> None:
    """As the run ended, a trace said of such a job, and of one in a group, that it had never started."""
    source = Job(anyio.sleep, 2, label="source")
    user = Job(anyio.sleep, 3, required=source, label="user")
    member = Job(anyio.sleep, 1, label="member")
    group = Scheduler(member, required=source, label="group")
    seen = list[Any]()
    trace = Trace()

    def facts() -> list[Any]:
        spans = [span for span in trace.spans if span.path != "source"]
        return [
            (span.path, span.state, span.started_at, span.last_attempt, span.took)
            for span in spans
        ]

    async def stop() -> None:
        await anyio.sleep(6)
        source.try_again()
        await anyio.sleep(1)
        seen.extend(facts())
        scheduler.cancel()

    scheduler = Scheduler(source, user, group, Job(stop, label="stop"))
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    jobs = {job.path: job for job in scheduler.iterate_jobs()}
    found = facts()
    assert found[1:] == seen[1:]
    for path, *said in found:
        job = jobs[path]
        assert said == [job.state, job.started_at, job.attempts, job.took]
    (user_span,) = [span for span in trace.spans if span.path == "user"]
    waits = [(wait.cause, wait.since, wait.until) for wait in user_span.waits]
    assert waits == [("jobs", 0, 2), ("held", 5, 6), ("jobs", 6, 7)]
    record = trace._get_record()
    assert [record.spans[number].path for number in record.critical_path] == ["source"]
    assert "started at 2 s, took 3 s" in [*tooltip_lines(record, user_span)]
