"""The HTML report as a file: complete, escaped, and with a notice in place of what it cannot show."""

import csv
import functools
import html.parser
import json
import random
import re
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree
import anyio
import pytest
from trioflow import Budget, CommandJob, Job, JobState, JUnit, Pool, Scheduler, Trace
from trioflow._core.job._labels import printable
from trioflow._core.words import _job_queries
from trioflow.view import listing, save
from trioflow.view.graph import _dot
from trioflow.view.text import _debrief
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace import _time_spent
from trioflow.view.trace.report import _report
from ...bodies import at_once, fail, later, nap
from ...conftest import Virtual
from .scenarios import NASTY, everything, traced

pytestmark = pytest.mark.usefixtures("no_dot")


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._within: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "link", "br", "input", "col"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        for tag in self._within[-1:]:
            self.texts.setdefault(tag, []).append(data)


def write_report(trace: Trace, path: Path) -> str:
    save(trace, path)
    return path.read_text(encoding="utf-8")


def report(virtual: Virtual, scheduler: Any, path: Path, **options: Any) -> str:
    return write_report(traced(virtual, scheduler, **options), path)


def data(text: str) -> Any:
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
    )
    return json.loads(found)


def test_a_scheduler_that_timed_out_after_a_failed_attempt_is_a_failure(
    virtual: Virtual, tmp_path: Path
) -> None:
    bodies = iter([fail, functools.partial(nap, 99)])
    inner = Scheduler(
        Job(lambda: next(bodies)(), label="step", critical=True),
        label="inner",
        timeout=5,
        retry=1,
    )
    page = Page(report(virtual, Scheduler(inner), tmp_path / "r.html"))
    names, told = (
        page.texts["bdi"][2:][::2],
        page.texts["bdi"][2:][1::2],
    )  # after title and verdict
    assert names[0] == "inner"
    assert told[0].startswith("JobTimeout")


def test_the_report_needs_no_other_file(virtual: Virtual, tmp_path: Path) -> None:
    """The report loads nothing from elsewhere, and its Content-Security-Policy forbids it."""
    text = report(virtual, everything(), tmp_path / "r.html")
    page = Page(text)
    assert not {"iframe", "object", "embed", "base", "form"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("#", "data:")), (name, value)
    assert "@import" not in text
    assert (
        "default-src 'none'" in dict(page.attributes)["content"]
        or "default-src 'none'" in text
    )


def failures_text(text: str) -> str:
    return text.partition('<section id="failures">')[2].partition("</section>")[0]


def test_a_critical_failure_lists_cancelled_and_unstarted_jobs_apart(
    virtual: Virtual, tmp_path: Path
) -> None:
    bad, long = Job(fail, 1, label="bad", critical=True), Job(nap, 9, label="long")
    text = report(
        virtual,
        Scheduler(bad, long, Job(nap, label="never", required=long)),
        tmp_path / "r.html",
    )
    stopped = "<b>cancelled 1 job while running</b>: <bdi>long</bdi>"
    assert f"<b>kept 1 job from running</b>: <bdi>never</bdi> · {stopped}" in text
    assert "3 jobs: 1 failed, 1 cancelled, 1 idle" in text
    assert re.findall('<span class="part (.*?)"', text) == [
        "failed",
        "cancelled",
        "idle",
    ]


@pytest.mark.parametrize("stops", [True, False])
def test_a_failure_is_not_blamed_for_what_the_user_cancelled(
    virtual: Virtual, tmp_path: Path, stops: bool
) -> None:
    early, late = Job(nap, 9, label="early"), Job(nap, 9, label="late")
    bad = Job(fail, 3, label="bad", critical=stops)
    group = Scheduler(early, late, bad, label="loads", critical=False)
    section = failures_text(
        report(
            virtual, Scheduler(Job(later, 1, early.cancel), group), tmp_path / "r.html"
        )
    )
    assert (
        "<b>cancelled 1 job while running</b>: <bdi>loads/late</bdi>" in section
    ) is stops
    assert ("kept no job from running" in section) is not stops
    assert "early" not in section


def test_jobs_that_a_blocked_job_stopped_are_listed_at_the_first_failure(
    virtual: Virtual, tmp_path: Path
) -> None:
    bad, last = Job(fail, 1, label="bad"), Job(nap, 9, label="last")
    gate = Job(nap, 0, bad, label="gate", critical=True)
    section = failures_text(
        report(virtual, Scheduler(bad, gate, last), tmp_path / "r.html")
    )
    assert "<b>kept 1 job from running</b>: <bdi>gate</bdi>" in section
    assert "<b>cancelled 1 job while running</b>: <bdi>last</bdi>" in section


def test_the_jobs_of_a_blocked_group_did_not_run(
    virtual: Virtual, tmp_path: Path
) -> None:
    """What no failure explains is listed job by job, in a group or not, and has its reason in JUnit's file."""
    gone = Job(nap, 9, label="gone")
    group = Scheduler(
        Job(nap, label="x"), Job(nap, label="y"), label="group", required=gone
    )
    junit = JUnit(tmp_path / "junit.xml")
    scheduler = Scheduler(
        gone,
        Job(at_once, gone.cancel),
        group,
        Job(nap, label="b", required=gone),
        instruments=[junit],
    )
    section = failures_text(report(virtual, scheduler, tmp_path / "r.html"))
    names = ", ".join(f"<bdi>{name}</bdi>" for name in ("b", "group/x", "group/y"))
    assert (
        f"3 jobs did not run, because <bdi>gone was cancelled</bdi>: {names}" in section
    )
    assert (tmp_path / "junit.xml").read_text().count(
        '"not run, because gone was cancelled"'
    ) == 3


def random_groups(seed: int) -> Scheduler:
    """Groups, some in others, whose jobs fail now and then, and take the results of jobs in any group before them."""
    chance, around, jobs = (
        random.Random(seed),
        [Scheduler(label="all")],
        list[Job[Any]](),
    )
    for number in range(chance.randint(4, 14)):
        # A group that was left gets no more jobs, so that no two groups need each other.
        del around[chance.randint(1, len(around)) :]
        if chance.random() < 0.4:
            before = [
                each
                for each in chance.sample(jobs, len(jobs) // 3)
                if each.scheduler is around[-1]
            ]
            around.append(
                Scheduler(label=f"g{number}", required=before, scheduler=around[-1])
            )
        needed = chance.sample(jobs, min(len(jobs), chance.choice((0, 1, 1, 2))))
        error = type(f"Error{number}", (Exception,), {})()
        body = (
            (lambda *_, error=error: fail(0, error))
            if chance.random() < 0.3
            else functools.partial(nap, 0)
        )
        jobs.append(Job(body, *needed, label=f"j{number}", scheduler=around[-1]))
    return around[0]


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(60))
def test_report_and_debrief_name_the_same_cause_of_each_job_that_did_not_run(
    virtual: Virtual, seed: int
) -> None:
    """Report and debrief have one cause for each job that did not run, across groups. The report had each neighbor as
    another cause of a job in another group, and "kept 1 job from running" for seven."""
    scheduler = random_groups(seed)
    record = traced(virtual, scheduler)._get_record()
    causes = dict[str, set[str]]()
    for job in _job_queries.ordinary_jobs(scheduler):
        cause: Any = job
        while cause.state is not JobState.FAILED or isinstance(cause, Scheduler):
            if cause.state is JobState.BLOCKED:
                cause = cause.raised_exception().requirement
            elif cause.state is JobState.FAILED:
                cause = cause.culprit
            elif cause.scheduler is None or cause.state is JobState.SUCCEEDED:
                break
            else:
                cause = cause.scheduler
        else:
            if cause is not job:
                causes.setdefault(cause.path, set()).add(job.path)
    stopped = _report.find_stopped_jobs(record)
    assert {
        record.spans[at].path: {each.path for each in spans}
        for at, spans in stopped.items()
    } == causes
    lines = re.findall(
        "not run: (.*), because (.*) failed",
        _debrief.details_text(scheduler, Symbols()),
    )
    assert {cause for _, cause in lines} == causes.keys()
    for names, cause in lines:
        sizes = [
            int(size or 1)
            for size in re.findall(r"[^,]+?(?: \((\d+) jobs?\))?(?:, |$)", names)
        ]
        more = sum(map(int, re.findall(r" and (\d+) more", names)))
        assert more or sum(sizes) == len(causes[cause])
    text = failures_text(_report.report_html(record, None))
    told = re.findall(r"kept (\d+) jobs? from running", text)
    assert sorted(map(int, told)) == sorted(map(len, causes.values()))
    assert not causes or "did not run, because" not in text


def test_the_failure_that_blocked_most_jobs_comes_first(
    virtual: Virtual, tmp_path: Path
) -> None:
    """Of failures that are not critical, the one that blocked most jobs comes first; long names lose their middles."""
    early, late = (
        Job(fail, 1, label="early"),
        Job(fail, 5, TypeError("bad"), label="late " + 99 * "x"),
    )
    after = Job(nap, 0, late, label="after " + 99 * "y")
    section = failures_text(
        report(virtual, Scheduler(early, late, after), tmp_path / "r.html")
    )
    assert section.index("late xxx") < section.index("early")
    assert 60 * "y" not in section


def test_the_parts_of_the_critical_path_add_up_to_the_time_of_the_run(
    virtual: Virtual,
) -> None:
    jobs = [Job(nap, 3 + n, label=f"train {n}", needs={"gpu": 1}) for n in range(3)]
    inner = Scheduler(
        Job(nap, 2, label="a"),
        Job(nap, 1, label="b"),
        label="inner",
        required=jobs,
        jobs_window=1,
    )
    trace = traced(virtual, Scheduler(inner, jobs, pool=Pool(gpu=1)))
    parts = _time_spent.critical_path_parts(trace._get_record())
    assert sum(part.seconds for part in parts) == 15
    assert [(part.name, part.seconds) for part in parts[:2]] == [
        ("train 2", 5),
        ("train 1", 4),
    ]


def test_parts_of_the_critical_path_below_half_a_percent_are_left_out(
    virtual: Virtual, tmp_path: Path
) -> None:
    long = Job(nap, 100, label="long")
    short = Job(nap, 0.4, label="short", required=long)
    text = report(virtual, Scheduler(long, short), tmp_path / "r.html")
    path = text.partition('<ol class="path">')[2].partition("</ol>")[0]
    assert re.findall(r"<bdi>(.*?)</bdi>", path) == ["long"]
    assert "100&nbsp;%" in path
    assert "more" not in path


def test_failures_have_their_tracebacks(virtual: Virtual, tmp_path: Path) -> None:
    bad = Job(fail, 2, label="bad", critical=True)
    scheduler = Scheduler(Job(fail, 1, label="first"), Scheduler(bad, label="inner"))
    section = failures_text(report(virtual, scheduler, tmp_path / "r.html"))
    assert re.findall(r"<b [^>]*><a [^>]*><bdi>(.*?)</bdi></a></b>", section) == [
        "inner/bad",
        "first",
    ]
    assert section.count("Traceback (most recent call last)") == 2
    assert section.count("raise error if error is not None") == 4, (
        "and each has its line besides"
    )
    assert "_core" not in section, "frames of the engine tell a reader nothing"
    assert section.count('<span class="badge bad">critical</span>') == 1


def test_the_report_says_what_blocked_jobs_without_a_failure(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The report says what blocked jobs if no job failed: a spent budget, or that a requirement was cancelled. It said
    that no job failed, and nothing else; and the cancelled job counted as kept from running by a failure."""
    cancelled = Job(nap, 9, label="cancelled")
    calls = [Job(nap, needs={"usd": 1}, label=f"call {number}") for number in range(3)]
    jobs = [
        Job(at_once, cancelled.cancel),
        cancelled,
        Job(nap, label="next", required=cancelled),
        *calls,
    ]
    text = failures_text(
        report(virtual, Scheduler(*jobs, pool=Pool(usd=Budget(1))), tmp_path / "r.html")
    )
    assert (
        '<b class="state-failed">2 jobs did not run, because a budget is spent</b> <bdi>the first: Budget'
        in text
    )
    assert "needs usd=1, but 0 of 1 left" in text
    assert "kept no job from running" not in text
    assert (
        "<p>1 job did not run, because <bdi>cancelled was cancelled</bdi>: <bdi>next</bdi></p>"
        in text
    )
    assert "No job failed" not in text
    assert "<b>kept" not in text


def test_all_text_is_escaped(virtual: Virtual, tmp_path: Path) -> None:
    """In the report, labels and messages crafted to break out of the markup stay text."""
    plain = Page(
        report(
            virtual,
            Scheduler(*(Job(fail, label=f"x{n}") for n in (1, 2)), label="y"),
            tmp_path / "p.html",
        )
    )
    jobs = [Job(fail, 1, OSError(label), label=label) for label in NASTY]
    text = report(virtual, Scheduler(*jobs, label=NASTY[0]), tmp_path / "r.html")
    nasty = Page(text)
    assert set(nasty.tags) <= set(plain.tags)
    assert nasty.tags.count("script") == plain.tags.count("script")
    assert not [name for name, _ in nasty.attributes if name.startswith("on")]
    assert data(text)["rows"][0][0] == NASTY[0].replace("/", r"\/")
    assert r"control \x00 \x1b[31m" in text


def test_the_table_has_every_job(virtual: Virtual, tmp_path: Path) -> None:
    a = Job(nap, 90, label="a")
    found = data(
        report(
            virtual,
            Scheduler(a, Job(nap, 1, a, run_if="failed", label="b")),
            tmp_path / "r.html",
        )
    )
    assert found == {
        "units": ["s", "s", "s"],
        "required": {"1": [0]},
        "waits": {"1": ["waited 1 min 30 s for jobs"]},
        "states": [["succeeded", 1], ["skipped", 1]],
        "rows": [
            [
                "a",
                "Job",
                "succeeded",
                [0.0, "0.000"],
                [0.0, "0.000"],
                [90.0, "90.00"],
                1,
                1,
                "",
                ["critical path"],
                1,
            ],
            ["b", "Job", "skipped", None, None, None, None, None, "", [], 1],
        ],
        "commands": {},
    }


def draw_instead(monkeypatch: pytest.MonkeyPatch, drawn: str | Exception) -> None:
    """Let `dot` draw this picture, or fail with this exception."""

    def render(*_: Any) -> bytes:
        if isinstance(drawn, Exception):
            raise drawn
        return drawn.encode()

    monkeypatch.setattr(_dot, "render", render)


def test_the_report_embeds_the_graph(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x" "http://y">\n<svg width="1pt"><title>G</title></svg>\n'
    draw_instead(monkeypatch, drawn)
    text = report(virtual, Scheduler(Job(nap)), tmp_path / "r.html")
    assert '<svg width="1pt"><title>G</title></svg>' in text
    assert "DOCTYPE svg" not in text


def test_without_dot_the_report_has_advice(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `dot`, the report explains how to install Graphviz, and is otherwise as usual."""
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    text = report(virtual, Scheduler(Job(nap)), tmp_path / "r.html")
    assert (
        "No graph: the program dot, which draws the picture, is not installed" in text
    )
    assert "apt install graphviz" in text
    assert data(text)["rows"]


def test_an_error_replaces_an_undrawn_graph(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the graph cannot be drawn, the report has the error in its place, and is otherwise as usual."""
    draw_instead(monkeypatch, PermissionError("dot may not be run"))
    text = report(virtual, Scheduler(Job(nap)), tmp_path / "r.html")
    assert "No graph: dot may not be run." in text
    assert data(text)["rows"]


def test_a_large_scenario_has_no_graph(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has no graph of hundreds of different jobs: it would be unreadable, and take minutes to draw."""
    draw_instead(monkeypatch, AssertionError("not to be asked for"))
    jobs = [Job(nap, label="x" * n) for n in range(1, 302)]
    text = report(virtual, Scheduler(jobs), tmp_path / "r.html")
    assert "There are too many jobs for a readable graph" in text


def test_the_report_limits_kinds_of_failures(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report shows some kinds of failures, in use 200; the others are only in its table."""
    monkeypatch.setattr(_report, "MAX_FAILURE_GROUPS", 20)
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(50)]
    text = report(
        virtual,
        Scheduler(*(Job(fail, 0, kind()) for kind in kinds)),
        tmp_path / "r.html",
    )
    assert text.count('<article class="failure"') == 20
    assert "30 more are in the table." in text
    assert "<summary>47 other kinds of failures</summary>" in text


def test_the_report_groups_equal_failures(virtual: Virtual, tmp_path: Path) -> None:
    """In the report, equal failures share one traceback, with a link to each job; critical ones are apart."""
    jobs = [
        Job(fail, 1 + n, OSError(f"disk {n}"), label=f"job {n}", critical=n == 2)
        for n in range(3)
    ]
    section = failures_text(report(virtual, Scheduler(*jobs), tmp_path / "r.html"))
    titles = re.findall(r'<b class="state-failed">(.*?)</b>', section)
    assert [re.sub("<.*?>", "", title) for title in titles] == ["job 2", "2 jobs"]
    assert section.count("Traceback (most recent call last)") == 2
    assert re.findall(
        r"<li><a [^>]*><bdi>(.*?)</bdi></a> <bdi>OSError: (.*?)</bdi></li>", section
    ) == [
        ("job 0", "disk 0"),
        ("job 1", "disk 1"),
    ]


def test_forever_jobs_that_did_not_fail_are_listed_apart(
    virtual: Virtual, tmp_path: Path
) -> None:
    good, bad = (
        Job(nap, 99, forever=True, label="good"),
        Job(fail, 1, forever=True, label="bad"),
    )
    text = report(
        virtual,
        Scheduler(good, bad, Scheduler(Job(nap, 5), label="inner")),
        tmp_path / "r.html",
    )
    assert "2 jobs: 1 succeeded, 1 failed, and 1 forever job" in text
    assert "<summary>1 forever job</summary>" in text
    found = data(text)
    assert found["states"] == [["succeeded", 1], ["failed", 1]]
    places = {row[0]: row[10] for row in found["rows"]}
    assert (
        places.pop("good"),
        places.pop("bad"),
        places.pop("inner"),
        *places.values(),
    ) == (2, 1, 0, 1)


def test_commands_have_exit_codes_times_outputs_and_files(
    backend: str, tmp_path: Path
) -> None:
    jobs = [
        CommandJob(
            "echo '<b>'; echo no >&2; exit 3",
            shell=True,
            stdout=PIPE,
            stderr=PIPE,
            label="bad",
        ),
        CommandJob("kill -9 $$", shell=True, label="killed"),
        CommandJob(["seq", "1000"], stdout=PIPE, label="long"),
        CommandJob(["echo"], stdout=tmp_path / "out" / "a b.txt", label="file"),
        CommandJob(["no-such-program"], label="none"),
    ]
    trace = Trace()
    Scheduler(*jobs).run(instruments=[trace], backend=backend)
    text = write_report(trace, tmp_path / "r.html")
    found = data(text)
    told = {
        found["rows"][int(number)][0]: one for number, one in found["commands"].items()
    }
    assert set(told) == {"bad", "killed", "long", "file"}
    assert told["bad"]["command"] == "echo '<b>'; echo no >&2; exit 3"
    assert told["bad"]["outputs"] == [
        ["end of its standard output", "<b>"],
        ["end of its standard error", "no"],
    ]
    assert re.match(
        r"exit code 3 · elapsed .* · user .* · system ", told["bad"]["facts"]
    )
    assert told["killed"]["facts"].startswith("ended by SIGKILL")
    assert told["long"]["outputs"][0][1].endswith("999\n1000")
    assert len(told["long"]["outputs"][0][1]) < 1001
    assert told["file"]["files"] == [
        ["stdout", "./out/a%20b.txt", printable(str(tmp_path / "out" / "a b.txt"))]
    ]
    assert {row[0]: row[11] and row[11][1] for row in found["rows"]} == {
        "bad": "3", "killed": "SIGKILL", "long": "0", "file": "0", "none": None
    }  # fmt: skip
    assert "<code>echo &#39;&lt;b&gt;&#39;; echo no &gt;&amp;2; exit 3</code>" in text


def test_a_redacted_command_is_kept_secret(backend: str, tmp_path: Path) -> None:
    job = CommandJob(
        ["sh", "-c", "echo $0", "hunter2"],
        stdout=PIPE,
        stderr=tmp_path / "hunter2",
        redact=True,
    )
    trace = Trace()
    Scheduler(job).run(instruments=[trace], backend=backend)
    text = write_report(trace, tmp_path / "r.html")
    assert "hunter2" not in text
    assert data(text)["commands"]["0"]["command"] == "command …"


def test_the_output_of_commands_is_limited(
    monkeypatch: pytest.MonkeyPatch, backend: str, tmp_path: Path
) -> None:
    """Beyond a limit, the report replaces the output of commands by a note, last of all that of failed commands."""
    monkeypatch.setattr(_report, "MAX_OUTPUT_CHARACTERS", 5)
    jobs = [CommandJob(f"echo aaa; exit {n}", shell=True, stdout=PIPE) for n in (0, 1)]
    trace = Trace()
    Scheduler(*jobs).run(instruments=[trace], backend=backend)
    found = data(write_report(trace, tmp_path / "r.html"))["commands"]
    assert {
        number: (len(one["outputs"]), bool(one["note"]))
        for number, one in found.items()
    } == {
        str(trace.spans.index(span)): (1, False) if span.returncode else (0, True)
        for span in trace.spans
    }


def test_the_report_survives_an_exception_whose_str_raises(
    virtual: Virtual, tmp_path: Path
) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise OSError

    text = report(
        virtual, Scheduler(Job(fail, 1, Broken(), label="bad")), tmp_path / "r.html"
    )
    assert "Broken: &lt;its str() raised OSError&gt;" in text


def test_the_report_shows_forty_levels_of_nesting(
    virtual: Virtual, tmp_path: Path
) -> None:
    inside: Any = Job(nap, label="core")
    for depth in range(40):
        inside = Scheduler(inside, label=str(depth))
    text = report(virtual, inside, tmp_path / "r.html")
    assert len(data(text)["rows"]) == 40
    assert text.count('class="job" data-number') == 1


def test_the_report_of_an_unfinished_run_is_marked_as_such(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A report made during a run states that the run has not ended; a later one has the result."""
    trace = Trace()
    look = Job(at_once, lambda: write_report(trace, tmp_path / "r.html"))
    virtual(Scheduler(look, instruments=[trace]).co_run)
    assert "has not ended" in look.result()
    assert ">1 job succeeded, " in write_report(trace, tmp_path / "r.html")


def test_wide_graph_goes_from_left_to_right(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the report, thirty parallel jobs are drawn below each other, because a row of them would be unreadable."""
    monkeypatch.undo()  # so that `dot` draws it
    text = report(
        virtual,
        Scheduler(Job(nap, label=f"a job {'x' * n}") for n in range(30)),
        tmp_path / "r.html",
    )
    drawn = text.partition('<section id="graph"')[2]
    width, height = (
        float(drawn.partition(f'{side}="')[2].partition("pt")[0])
        for side in ("width", "height")
    )
    assert width < height


def test_graph_has_the_traces_critical_path(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of a report marks the critical path of the run in the trace, although the jobs have run once more."""
    monkeypatch.undo()  # so that `dot` draws it
    seconds = {"left": 5.0, "right": 1.0}
    scheduler, trace = (
        Scheduler(
            *(Job(lambda name=name: nap(seconds[name]), label=name) for name in seconds)
        ),
        Trace(),
    )
    virtual(functools.partial(scheduler.co_run, instruments=[trace]))
    seconds["right"] = 9.0
    virtual(scheduler.co_run)
    graph = (
        write_report(trace, tmp_path / "r.html")
        .partition('id="graph"')[2]
        .partition("</section>")[0]
    )
    boxes = {
        box.partition("</text>")[0].rpartition(">")[2]: box
        for box in graph.split('class="node"')[1:]
    }
    assert boxes["left"].count("<path") > boxes["right"].count(
        "<path"
    )  # a double border


def test_each_run_of_a_job_has_a_link_of_its_own(
    virtual: Virtual, tmp_path: Path
) -> None:
    """If a nested scheduler ran twice, the critical path links the job of each run to its own row of the table."""
    tries = iter([fail, nap])
    inner = Scheduler(
        Job(lambda: next(tries)(2), label="step", critical=True), label="inner", retry=1
    )
    text = report(virtual, Scheduler(inner), tmp_path / "r.html")
    links = {
        unquote(link)
        for link in re.findall('<a href="#job=(.*?)">', text.partition("<nav>")[0])
    }
    assert links == {"inner/step", "inner/step (run 2)"}
    assert links < {row[0] for row in data(text)["rows"]}


# ---- words
def test_each_section_of_the_report_has_a_link(
    virtual: Virtual, tmp_path: Path
) -> None:
    text = report(
        virtual, Scheduler(Job(nap), Job(nap), jobs_window=1), tmp_path / "r.html"
    )
    links = re.findall(
        'href="#(.*?)"', text.partition("<nav>")[2].partition("</nav>")[0]
    )
    assert links == re.findall('<section id="(.*?)"', text.partition("</header>")[2])


def test_a_run_with_the_default_label_gets_a_title(
    virtual: Virtual, tmp_path: Path
) -> None:
    """And a word about failures: an empty section would leave the reader wondering."""
    text = report(virtual, Scheduler(Job(nap), Job(nap)), tmp_path / "r.html")
    assert "<title>A run of 2 jobs</title>" in text
    assert "No job failed." in text
    assert "<title>nothing has run</title>" in write_report(
        Trace(), tmp_path / "r.html"
    )


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("drain", "no more jobs were started"),
        ("cancel", "The run was cancelled"),
        ("timeout", "The run timed out"),
    ],
)
def test_the_report_explains_why_the_run_was_stopped(
    virtual: Virtual, tmp_path: Path, reason: str, says: str
) -> None:
    scheduler = Scheduler(Job(nap, 5), Job(nap, 99))
    if reason != "timeout":
        scheduler.add(Job(at_once, getattr(scheduler, reason)))
    assert says in report(
        virtual,
        scheduler,
        tmp_path / "r.html",
        timeout=50 if reason == "timeout" else None,
    )


# ---- restored jobs
def test_restored_jobs_are_marked_in_report_and_timeline(
    backend: str, tmp_path: Path
) -> None:
    for _ in range(2):
        trace = Trace()
        first = Job(nap, label="first")
        scheduler = Scheduler(
            first,
            Job(nap, 0, first, label="second"),
            Job(nap, label="third", save=None),
        )
        scheduler.run(backend=backend, journal=tmp_path / "run.db", instruments=[trace])
    text = write_report(trace, tmp_path / "r.html")
    assert "3 jobs: 3 succeeded (2 restored)" in text
    assert {row[0]: row[9] for row in data(text)["rows"]} == {
        "first": ["restored"], "second": ["restored"], "third": ["critical path"]
    }  # fmt: skip
    assert "2 restored from the journal, not run again: first, second" in text
    assert text.count('class="bar family0 on-path"') == 1  # third
    assert listing(scheduler).count("restored") == 2


def test_the_record_of_a_resumed_run_is_whole(backend: str, tmp_path: Path) -> None:
    """Restored jobs have their times, exit codes and memory of the run that ran them, marked as restored."""
    rows: list[dict[str, dict[str, str]]] = []
    for _ in range(2):
        trace = Trace()
        jobs = [
            CommandJob(["true"], label="command", needs={"cpu": 1}),
            Job(anyio.sleep, 0.01, label="function", needs={"cpu": 1}),
        ]
        Scheduler(*jobs, journal=tmp_path / "run.db", pool=Pool(cpu=1)).run(
            backend=backend, instruments=[trace, JUnit(tmp_path / "j.xml")]
        )
        save(trace, tmp_path / "t.csv")
        with (tmp_path / "t.csv").open() as file:
            rows.append({row["path"]: row for row in csv.DictReader(file)})
    first, second = rows
    for path, row in second.items():
        assert (row["restored"], first[path]["restored"]) == ("True", "False")
        assert (row["started"], row["attempts"]) == ("", "0")
        assert float(row["took"]) == pytest.approx(float(first[path]["took"]), abs=1e-5)
        start, first_start = (
            datetime.fromisoformat(row["started_wall"]) for row in (row, first[path])
        )
        assert abs(start - first_start) < timedelta(minutes=1)
        assert not any(
            row[name]
            for name in ("scheduled", "ready", "finished", "waited", "waited_for")
        )
    assert trace.time_spent().families == ()
    durations = {path: float(row["took"]) for path, row in second.items()}
    assert {job.label: job.elapsed for job in jobs} == pytest.approx(durations)
    names = "returncode", "user_time", "system_time", "max_rss"
    assert [second["command"][name] for name in names] == [
        first["command"][name] for name in names
    ]
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()[0]
    assert {case.attrib["name"]: case.attrib["time"] for case in suite} == {
        path: f"{seconds:.3f}" for path, seconds in durations.items()
    }
    assert float(suite.attrib["time"]) == pytest.approx(
        sum(durations.values()), abs=0.001
    )
    text = write_report(trace, tmp_path / "r.html")
    assert all(row[5] is not None and row[5][0] > 0 for row in data(text)["rows"])


# ---- labels
def test_long_labels_are_shortened(virtual: Virtual, tmp_path: Path) -> None:
    """The report shortens long labels: one of ten thousand characters would bury everything else."""
    jobs = [
        Job(fail, 1, OSError("x"), label="x" * 10_000),
        Job(nap, 99, forever=True, label="y" * 10_000),
    ]
    text = report(virtual, Scheduler(*jobs, label="z" * 10_000), tmp_path / "r.html")
    assert (
        max(map(len, re.findall("[xyz]+", text))) <= 1000
    )  # where the mouse rests on a box of the graph


def test_right_to_left_labels_are_isolated_from_adjacent_text(
    virtual: Virtual, tmp_path: Path
) -> None:
    label = "שלום 12"
    jobs = [
        Job(fail, 1, OSError(label), label=label, critical=True),
        Job(nap, 99, forever=True, label=label),
    ]
    text = report(virtual, Scheduler(*jobs, label=label), tmp_path / "r.html")
    before_the_pictures = re.sub("<title>.*?</title>", "", text).partition(
        '<section id="graph"'
    )[0]
    inside = re.findall("<bdi>(.*?)</bdi>", before_the_pictures)
    assert (
        before_the_pictures.count(label)
        == sum(text.count(label) for text in inside) + 1
    )  # in the line of code
    assert f"<li><b><bdi>{label}#2</bdi></b>" in text


@pytest.mark.parametrize("backend", ["trio"], indirect=True)  # it is about the page
def test_a_report_of_many_jobs_stays_small(virtual: Virtual, tmp_path: Path) -> None:
    many = Scheduler(
        [Job(nap, n % 7, label=f"job {n}") for n in range(400)], jobs_window=64
    )
    assert len(report(virtual, many, tmp_path / "r.html")) < 400 * 500
