"""`JUnit` and `Summary`: every outcome, hostile labels and output, as JUnit parser and Markdown renderer read them."""

from __future__ import annotations

import functools
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import junitparser
import pytest
from markdown_it import MarkdownIt

from trioflow import CommandJob, Job, JUnit, Scheduler, Summary, Trace
from trioflow.view.trace import _event_recorder

from ...bodies import fail, nap, nothing

if TYPE_CHECKING:
    from ...conftest import Virtual

HOSTILE = "a]]>b & <i>\"'\x1b[31mred\x1b[0m\x00\x08\ufffe\udcff | `x` [y](z) ## * _ \n::error::no"


@pytest.fixture(autouse=True)
def not_on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


async def run_and_report(scheduler: Scheduler, *instruments: Any) -> None:
    await scheduler.co_run(instruments=instruments)


def cases_in(path: Path) -> dict[str, Any]:
    """Return the cases of a file as junitparser reads them, by suite and name."""
    found = junitparser.JUnitXml.fromfile(str(path))
    return {f"{suite.name}: {case.name}": case for suite in found for case in suite}


def kinds(case: Any) -> list[str]:
    return [type(one).__name__ for one in case.result]


def rendered(path: Path) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).disable("linkify").render(path.read_text(encoding="utf-8"))


def every_outcome() -> Scheduler:
    broken = Job(fail, 1, label="broken")
    inner = Scheduler(Job(nap, 2, label="deep"), Job(fail, 1, label="deep failure"), label="inner")
    late = Scheduler(Job(nap, 50, label="cut"), label="late", timeout=3)
    return Scheduler(
        broken, inner, late,
        Job(nothing, label="blocked", required=broken, run_if="succeeded"),
        Job(nothing, label="skipped", required=Job(nothing, label="fine"), run_if="failed"),
        Job(nap, 50, label="slow", timeout=1),
        Job(nap, 1000, label="background", forever=True),
        label="all",
    )  # fmt: skip


def test_each_outcome_maps_to_a_junit_result(virtual: Virtual, tmp_path: Path) -> None:
    """A JUnit file has failed and timed-out jobs as failures, and others that did not finish as skipped."""
    scheduler = every_outcome()
    scheduler.sanitize()
    virtual(run_and_report, scheduler, JUnit(tmp_path / "junit.xml"))
    cases = cases_in(tmp_path / "junit.xml")
    assert {name: kinds(case) for name, case in cases.items() if case.result} == {
        "all: broken": ["Failure"],
        "all: late": ["Failure"],
        "all: slow": ["Failure"],
        "all: blocked": ["Skipped"],
        "all: skipped": ["Skipped"],
        "all/inner: deep failure": ["Failure"],
        "all/late: cut": ["Skipped"],
    }
    assert {"all: background", "all/inner: deep"} <= cases.keys()
    assert cases["all: slow"].result[0].type == "JobTimeout"
    assert "OSError: broken" in cases["all: broken"].result[0].text
    assert cases["all/inner: deep"].time == 2
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (root.get("failures"), root.get("tests")) == ("4", str(len(cases)))


def test_dropped_jobs_are_in_the_junit_file_and_the_summary(virtual: Virtual, tmp_path: Path) -> None:
    """JUnit file and summary also count the settled jobs that a scheduler with `keep_jobs=False` has dropped."""

    async def grow() -> None:
        scheduler.update([Job(nap, 1, label="a"), Job(fail, 1, label="b")])

    scheduler = Scheduler(Job(grow, label="grow"), label="s", keep_jobs=False)
    virtual(run_and_report, scheduler, JUnit(tmp_path / "junit.xml"), Summary(tmp_path / "s.md"))
    assert len(scheduler) == 1
    assert {name: kinds(case) for name, case in cases_in(tmp_path / "junit.xml").items()} == {
        "s: grow": [],
        "s: a": [],
        "s: b": ["Failure"],
    }
    assert "1 of 3 jobs failed" in (tmp_path / "s.md").read_text()


def hostile() -> Scheduler:
    code = f"import sys; sys.stdout.buffer.write({HOSTILE.encode('utf-8', 'surrogateescape')!r}); sys.exit(1)"
    command = CommandJob([sys.executable, "-c", code], label=HOSTILE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    async def raises() -> None:
        raise ValueError(HOSTILE)

    return Scheduler(command, Job(raises, label=f"{HOSTILE} 2"), label=HOSTILE)


def test_hostile_labels_and_output_leave_the_junit_file_readable(tmp_path: Path) -> None:
    """A JUnit file is valid even if labels and output have control characters, `]]>` and bytes that are not Unicode."""
    hostile().run(instruments=[JUnit(tmp_path / "junit.xml")])
    cases = cases_in(tmp_path / "junit.xml")
    assert len(cases) == 2
    other, case = sorted(cases.values(), key=lambda one: "Its output:" in one.result[0].text)
    assert "]]>b & <i>" in case.name
    assert "red\\x00" in case.result[0].text.partition("Its output:")[2]
    assert "\x1b" not in (tmp_path / "junit.xml").read_text(encoding="utf-8")
    assert kinds(case) == kinds(other) == ["Failure"]


def test_hostile_labels_and_output_stay_text_in_the_summary(tmp_path: Path) -> None:
    """In the summary, a Markdown renderer finds only trioflow's headings and tables; markup in labels stays text."""
    hostile().run(instruments=[Summary(tmp_path / "s.md")])
    html = rendered(tmp_path / "s.md")
    assert re.findall(r"<(h\d)>", html) == ["h2", "h3", "h4", "h4", "h3", "h3"]
    assert html.count("<tr>") == 3
    for tag in ("<i>", "<a ", "<em>", "<strong>", "\x1b"):
        assert tag not in html


def test_huge_output_is_truncated_with_a_notice(tmp_path: Path) -> None:
    """A notice replaces the beginning of huge output, because CI systems reject reports of many MB."""
    big = CommandJob("head -c 3000000 /dev/zero | tr '\\0' x; echo the end; exit 1", shell=True, stdout=subprocess.PIPE)
    Scheduler(big).run(instruments=[JUnit(tmp_path / "junit.xml"), Summary(tmp_path / "s.md")])
    (case,) = cases_in(tmp_path / "junit.xml").values()
    said = case.result[0].text
    assert f"[{3000000 + 8 - _event_recorder.MAX_FAILED_OUTPUT_BYTES} earlier bytes are omitted]" in said
    assert said.rstrip().endswith("the end")
    assert (tmp_path / "junit.xml").stat().st_size < 100_000
    assert (tmp_path / "s.md").stat().st_size < 100_000


STREAMS: dict[str, dict[str, Any]] = {
    "one pipe": {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
    "two pipes": {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    "a file": {"stdout": subprocess.PIPE, "stderr": "log"},
}


@pytest.mark.parametrize("streams", STREAMS)
def test_each_report_has_captured_output_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], streams: str
) -> None:
    """JUnit file, summary and log show a command's captured output once: in a block, not in the failure's headline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    command = CommandJob(["sh", "-c", 'echo first; echo la"st" >&2; exit 1'], label="tests", **STREAMS[streams])
    Scheduler(command).run(instruments=[JUnit("junit.xml"), Summary("s.md")])
    (case,) = cases_in(tmp_path / "junit.xml").values()
    assert case.result[0].message == "CommandError: exit code 1: sh -c 'echo first; echo la\"st\" >&2; exit 1'"
    name = "output" if streams == "one pipe" else "standard error"
    assert f". Its {name} ended with:\n" in str(command.raised_exception())
    for text in ((tmp_path / "junit.xml").read_text(), (tmp_path / "s.md").read_text(), capsys.readouterr().out):
        assert text.count("\nfirst\n") == text.count("last") == 1


def test_the_summary_counts_restored_jobs(virtual: Virtual, tmp_path: Path) -> None:
    """The summary has the number of restored jobs in parentheses after the number of jobs that succeeded."""
    for _ in range(2):
        scheduler = Scheduler(Job(nap, 1, label="a"), Job(fail, 1, label="b"), label="s")
        virtual(functools.partial(scheduler.co_run, journal=tmp_path / "j", instruments=[Summary(tmp_path / "s.md")]))
    assert "\n2 jobs: 1 succeeded (1 restored), 1 failed\n" in (tmp_path / "s.md").read_text()


def test_junit_file_and_summary_have_no_redacted_text(tmp_path: Path) -> None:
    """JUnit file and summary leave out a redacted command and its output."""
    secret = CommandJob(["sh", "-c", "echo hunter2; exit 1"], redact=True, stdout=subprocess.PIPE)
    Scheduler(secret).run(instruments=[JUnit(tmp_path / "junit.xml"), Summary(tmp_path / "s.md")])
    assert "hunter2" not in (tmp_path / "junit.xml").read_text() + (tmp_path / "s.md").read_text()


def test_the_summary_has_verdict_failures_and_slowest_jobs_in_order(virtual: Virtual, tmp_path: Path) -> None:
    """The summary has the verdict, then the failures, then a table of jobs with the slowest first."""
    scheduler = every_outcome()
    scheduler.sanitize()
    virtual(run_and_report, scheduler, Summary(tmp_path / "s.md"))
    text = (tmp_path / "s.md").read_text()
    assert text.startswith("## ✗ all: 4 of ")
    assert "#### inner/deep failure" in text
    assert "blocked: not run, because broken failed" in text
    slowest = text.partition("### Slowest jobs")[2]
    assert re.findall(r"^\| (\S+) \|", slowest, re.M)[1:3] in (["late", "late/cut"], ["late/cut", "late"])


def test_only_the_last_attempt_of_a_retried_scheduler_counts(virtual: Virtual, tmp_path: Path) -> None:
    """A nested scheduler that succeeds on a retry has no failures in JUnit file, summary and report."""
    tries: list[int] = []

    async def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError

    inner = Scheduler(Job(flaky, label="flaky", critical=True), label="inner", retry=1)
    trace = Trace()
    instruments = JUnit(tmp_path / "junit.xml"), Summary(tmp_path / "s.md"), trace
    virtual(run_and_report, Scheduler(inner, label="all"), *instruments)
    assert {name: kinds(case) for name, case in cases_in(tmp_path / "junit.xml").items()} == {"all/inner: flaky": []}
    assert "1 job succeeded" in (tmp_path / "s.md").read_text()
    trace.export_as_htmlfile(tmp_path / "report.html")
    assert "1 job succeeded" in (tmp_path / "report.html").read_text()


# --- GitHub


def test_a_timed_out_nested_scheduler_counts_as_a_failed_job(virtual: Virtual, tmp_path: Path) -> None:
    """In summary and debrief, a nested scheduler that timed out counts as one more job, which failed."""
    scheduler = Scheduler(Scheduler(Job(nap, 9, label="long"), timeout=1, label="inner"), label="shop")
    virtual(functools.partial(scheduler.co_run, instruments=[Summary(tmp_path / "summary.md")]))
    told = io.StringIO()
    scheduler.debrief(told)
    verdict, counts = (tmp_path / "summary.md").read_text().splitlines()[0:3:2]
    assert verdict.removeprefix("## ✗ shop: ").rpartition(",")[0] in told.getvalue()
    assert verdict.startswith("## ✗ shop: 1 of 2 jobs failed, ")
    assert counts == "2 jobs: 1 failed, 1 cancelled"
    assert counts in told.getvalue()


def test_failures_are_annotations_on_github(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On GitHub, each failure is an escaped annotation at its line of code; no text in the log acts as a command."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    monkeypatch.chdir(Path(__file__).parent)
    (tmp_path / "step.md").write_text("before\n")
    hostile().run(instruments=[Summary()])
    lines = capsys.readouterr().out.splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == 2
    error = next(line for line in errors if "ValueError" in line)
    assert "::no" not in error  # the second line of its message
    assert re.match(r"::error file=test_ci.py,line=\d+,title=[^:,]*::ValueError", error)
    stops = [line.removeprefix("::stop-commands::") for line in lines if line.startswith("::stop-commands::")]
    inside = False
    for line in lines:  # as GitHub's runner reads them
        if line.startswith("::stop-commands::") and not inside:
            inside = True
        elif line in [f"::{stop}::" for stop in stops]:
            inside = False
        elif not inside and line.startswith("::"):
            assert line.startswith(("::error ", "::group::", "::endgroup::"))
    assert (tmp_path / "step.md").read_text().startswith("before\n## ✗")


def test_equal_failures_share_one_annotation_and_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal failures share an annotation: 500 unreachable nodes once filled the log with as many tracebacks."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Scheduler(Job(fail, 0, label=f"node {n}") for n in range(500)).run(instruments=[Summary(tmp_path / "s.md")])
    lines = capsys.readouterr().out.splitlines()
    (group,) = [line for line in lines if line.startswith("::group::")]
    assert re.fullmatch(r"::group::node \d+, node \d+, node \d+ and 497 more failed", group)
    (error,) = [line for line in lines if line.startswith("::error ")]
    title = group.removeprefix("::group::").replace(",", "%2C")
    assert f"title={title}::" in error


def test_the_summary_has_the_failing_line_and_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary has the failing line instead of its traceback, and the graph if it is small enough to read."""
    monkeypatch.chdir(Path(__file__).parent)

    async def broken() -> None:
        raise ValueError("no such printer")  # here

    for pages, has_graph in ((3, True), (50, False)):
        others = [Job(nothing, label=f"page{'x' * n}") for n in range(pages)]
        Scheduler(Job(broken, label="print"), others).run(instruments=[Summary(tmp_path / "s.md")])
        text = (tmp_path / "s.md").read_text()
        assert re.search(r'^test\\_ci.py:\d+: raise ValueError\("no such printer"\)  \\# here$', text, re.M)
        assert "Traceback" not in text
        assert ("```mermaid\nflowchart" in text) is has_graph


def test_the_log_on_github_has_no_invisible_characters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log on GitHub has no invisible characters: one that reverses text could disguise an error."""

    async def fail() -> None:
        raise ValueError("txt\u202egpj.exe\tof 100%")

    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Scheduler(Job(fail, label="a\u202eb\x00")).run(instruments=[Summary(tmp_path / "s.md")])
    log = capsys.readouterr().out
    assert log.replace("\n", "").replace("\t", "").isprintable()
    assert r"title=a\u202eb\x00 failed::ValueError: txt\u202egpj.exe of 100%25" in log.replace("\t", " ").replace(
        r"\t", " "
    )


def test_a_summary_without_a_path_raises_outside_github() -> None:
    """Outside GitHub, `Summary()` without a path raises an error that names the variable GITHUB_STEP_SUMMARY."""
    with pytest.raises(ValueError, match="GITHUB_STEP_SUMMARY"):
        Summary()


def test_a_report_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the JUnit file cannot be written, this is logged, and the run still succeeds."""
    report = JUnit(tmp_path / "no" / "junit.xml")
    assert Scheduler(Job(nothing)).run(instruments=[report])
    assert "cannot be written" in caplog.text
    assert not report.is_written
