"""`JUnit`: every outcome, hostile labels and output, as a JUnit parser reads them."""

import contextlib
import functools
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
import anyio
import junitparser
import pytest
from trioflow import (
    Budget,
    CommandJob,
    Job,
    JUnit,
    Pool,
    Retry,
    Scheduler,
    Trace,
    current_scheduler,
)
from trioflow.view import save
from trioflow.view.trace import _event_log
from ..bodies import Flaw, at_once, fail, fail_now, flaky, nap, nothing
from ..conftest import Virtual
from .kinds_of_runs import fails_twice

HOSTILE = "a]]>b & <i>\"'\x1b[31mred\x1b[0m\x00\x08\ufffe\udcff | `x` [y](z) ## * _ \n::error::no"


async def run_and_report(scheduler: Scheduler, *instruments: Any) -> None:
    await scheduler.co_run(instruments=instruments)


def cases_in(path: Path) -> dict[str, Any]:
    """Return the cases of a file as junitparser reads them, by suite and name."""
    found = junitparser.JUnitXml.fromfile(str(path))
    return {f"{suite.name}: {case.name}": case for suite in found for case in suite}


def kinds(case: Any) -> list[str]:
    return [type(one).__name__ for one in case.result]


def every_outcome() -> Scheduler:
    broken = Job(fail, 1, label="broken")
    inner = Scheduler(
        Job(nap, 2, label="deep"), Job(fail, 1, label="deep failure"), label="inner"
    )
    late = Scheduler(Job(nap, 50, label="cut"), label="late", timeout=3)
    return Scheduler(
        broken, inner, late,
        Job(nothing, label="blocked", required=broken, run_if="succeeded"),
        Job(nothing, label="skipped", required=Job(nothing, label="fine"), run_if="failed"),
        Job(nap, 50, label="slow", timeout=1),
        Job(nap, 1000, label="background", forever=True),
        label="all",
    )  # fmt: skip


@pytest.mark.parametrize("reason", ["TIMEOUT", "DRAINED", "FAILED", "COMPLETED"])
def test_the_file_of_a_run_that_was_not_fine_is_red_and_no_other(
    virtual: Virtual, tmp_path: Path, reason: str
) -> None:
    """A run that nothing has completed has an error, although no job failed, and one that is fine has none. A run that
    timed out once had only jobs that were skipped, so that CI was green."""

    async def await_failure() -> None:
        with contextlib.suppress(OSError):
            await bad

    bad = Job(fail, 1, label="bad")
    scheduler = {
        "TIMEOUT": lambda: Scheduler(Job(nap, 9), timeout=1),
        "DRAINED": lambda: Scheduler(
            Job(at_once, lambda: current_scheduler().drain()),
            Job(nap, 9),
            jobs_window=1,
        ),
        "FAILED": lambda: Scheduler(
            *(Job(nap, label=name, needs={"usd": 1}) for name in "ab"),
            pool=Pool(usd=Budget(1)),
        ),
        "COMPLETED": lambda: Scheduler(bad, Job(await_failure)),
    }[reason]()
    virtual(run_and_report, scheduler, JUnit(tmp_path / "junit.xml"))
    assert scheduler.stop_reason.name == reason
    suites = junitparser.JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert (suites.failures, suites.errors) == (0, int(reason != "COMPLETED"))
    found = [
        kind
        for case in cases_in(tmp_path / "junit.xml").values()
        for kind in kinds(case)
    ]
    assert found.count("Error") == suites.errors
    assert len(cases_in(tmp_path / "junit.xml")) == suites.tests


def test_earlier_failures_of_a_job_that_has_failed_are_no_flakiness(
    virtual: Virtual, tmp_path: Path
) -> None:
    """They are repetitions of its failure; those of a job that has succeeded at last are flaky."""
    jobs = [Job(fail, label="bad", retry=1), Job(fails_twice, label="good", retry=2)]
    virtual(run_and_report, Scheduler(*jobs), JUnit(tmp_path / "junit.xml"))
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert {case.get("name"): [part.tag for part in case] for case in cases} == {
        "bad": ["failure", "rerunFailure"],
        "good": ["flakyFailure"] * 2,
    }


def test_earlier_failures_of_a_job_that_moved_on_are_no_flakiness(
    virtual: Virtual, tmp_path: Path
) -> None:
    """Its case is skipped, and once had the element of a test that has passed at last, too."""
    calls = list[int]()

    async def fails_once_and_hangs() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("broken")
        await anyio.sleep(9)

    retry = Retry(1, first=1, jitter=False)
    job = Job(
        fails_once_and_hangs, label="job", retry=retry, timeout=5, on_timeout="move_on"
    )
    junit = JUnit(tmp_path / "junit.xml")
    assert virtual(lambda: Scheduler(job).co_run(instruments=[junit]))
    (case,) = ElementTree.parse(junit.path).iter("testcase")
    assert [part.tag for part in case] == ["skipped", "rerunFailure"]


def test_each_outcome_maps_to_a_junit_result(virtual: Virtual, tmp_path: Path) -> None:
    """A JUnit file has failed and timed-out jobs as failures, and others that did not finish as skipped."""
    scheduler = every_outcome()
    scheduler.sanitize()
    virtual(run_and_report, scheduler, JUnit(tmp_path / "junit.xml"))
    cases = cases_in(tmp_path / "junit.xml")
    assert {name: kinds(case) for name, case in cases.items() if case.result} == {
        "all: broken": ["Failure"], "all: late": ["Failure"], "all: slow": ["Failure"], "all: blocked": ["Skipped"],
        "all: skipped": ["Skipped"], "all/inner: deep failure": ["Failure"], "all/late: cut": ["Skipped"],
    }  # fmt: skip
    assert {"all: background", "all/inner: deep"} <= cases.keys()
    assert cases["all: slow"].result[0].type == "JobTimeout"
    assert "OSError: broken" in cases["all: broken"].result[0].text
    assert cases["all/inner: deep"].time == 2
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (root.get("failures"), root.get("tests")) == ("4", str(len(cases)))


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_cases_of_jobs_with_equal_labels_have_different_names(
    virtual: Virtual, tmp_path: Path, keep_jobs: bool
) -> None:
    """GitLab takes the first of equal names, and showed no failure of a job that ended after another of its label."""
    path = tmp_path / "junit.xml"
    jobs = [Job(nap, 1, label="a/b"), Job(fail, 2, label="a/b"), Job(nap, label="c#2")]
    groups = [Scheduler(Job(nap, label="in"), label="group") for _ in range(2)]
    scheduler = Scheduler(jobs, groups, label="all", keep_jobs=keep_jobs)
    virtual(run_and_report, scheduler, JUnit(path))
    assert {name: kinds(case) for name, case in cases_in(path).items()} == {
        "all: a/b": [],
        "all: a/b#2": ["Failure"],
        "all: c#2": [],
        "all/group: in": [],
        "all/group#2: in": [],
    }


def test_dropped_jobs_are_in_the_junit_file(virtual: Virtual, tmp_path: Path) -> None:
    scheduler = Scheduler(
        Job(
            at_once,
            lambda: scheduler.update([Job(nap, 1, label="a"), Job(fail, 1, label="b")]),
            label="grow",
        ),
        label="s",
        keep_jobs=False,
    )
    virtual(run_and_report, scheduler, JUnit(tmp_path / "junit.xml"))
    assert len(scheduler) == 2  # the failed one is kept for the exception at the end
    assert {
        name: kinds(case) for name, case in cases_in(tmp_path / "junit.xml").items()
    } == {
        "s: grow": [],
        "s: a": [],
        "s: b": ["Failure"],
    }


def hostile() -> Scheduler:
    code = f"import sys; sys.stdout.buffer.write({HOSTILE.encode('utf-8', 'surrogateescape')!r}); sys.exit(1)"
    command = CommandJob(
        [sys.executable, "-c", code],
        label=HOSTILE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Scheduler(
        command, Job(fail_now, ValueError(HOSTILE), label=f"{HOSTILE} 2"), label=HOSTILE
    )


def test_hostile_labels_and_output_leave_the_junit_file_readable(
    tmp_path: Path,
) -> None:
    """A JUnit file is valid even if labels and output have control characters, `]]>` and bytes that are not Unicode."""
    hostile().run(instruments=[JUnit(tmp_path / "junit.xml")])
    cases = cases_in(tmp_path / "junit.xml")
    assert len(cases) == 2
    other, case = sorted(
        cases.values(), key=lambda one: "Its output:" in one.result[0].text
    )
    assert "]]>b & <i>" in case.name
    assert "red\\x00" in case.result[0].text.partition("Its output:")[2]
    assert "\x1b" not in (tmp_path / "junit.xml").read_text(encoding="utf-8")
    assert kinds(case) == kinds(other) == ["Failure"]


def test_huge_output_is_truncated_with_a_notice(tmp_path: Path) -> None:
    """A notice replaces the beginning of huge output, because CI systems reject reports of many MB."""
    big = CommandJob(
        "head -c 3000000 /dev/zero | tr '\\0' x; echo the end; exit 1",
        shell=True,
        stdout=subprocess.PIPE,
    )
    Scheduler(big).run(instruments=[JUnit(tmp_path / "junit.xml")])
    (case,) = cases_in(tmp_path / "junit.xml").values()
    said = case.result[0].text
    assert (
        f"[{3000000 + 8 - _event_log.MAX_FAILED_OUTPUT_BYTES} earlier bytes are omitted]"
        in said
    )
    assert said.rstrip().endswith("the end")
    assert (tmp_path / "junit.xml").stat().st_size < 100_000


STREAMS: dict[str, dict[str, Any]] = {
    "one pipe": {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
    "two pipes": {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    "a file": {"stdout": subprocess.PIPE, "stderr": "log"},
}


@pytest.mark.parametrize("streams", STREAMS)
def test_the_junit_file_has_captured_output_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: str
) -> None:
    """The JUnit file shows a command's captured output once: in a block, not in the failure's headline."""
    monkeypatch.chdir(tmp_path)
    command = CommandJob(
        ["sh", "-c", 'echo first; echo la"st" >&2; exit 1'],
        label="tests",
        **STREAMS[streams],
    )
    Scheduler(command).run(instruments=[JUnit(tmp_path / "junit.xml")])
    (case,) = cases_in(tmp_path / "junit.xml").values()
    assert (
        case.result[0].message
        == "CommandError: exit code 1: sh -c 'echo first; echo la\"st\" >&2; exit 1'"
    )
    name = "output" if streams == "one pipe" else "standard error"
    assert f". Its {name} ended with:\n" in str(command.raised_exception())
    text = (tmp_path / "junit.xml").read_text()
    assert text.count("\nfirst\n") == text.count("last") == 1


def test_a_tolerated_failure_does_not_fail_the_suite(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The JUnit file agrees with the exit code: a tolerated failure is skipped, with its traceback."""
    scheduler = Scheduler(Job(fail, label="bad", critical=False))
    assert virtual(
        functools.partial(scheduler.co_run, instruments=[JUnit(tmp_path / "junit.xml")])
    )
    (case,) = cases_in(tmp_path / "junit.xml").values()
    assert case.is_skipped
    assert case.result[0].message == "failed (tolerated): OSError: broken"
    assert case.result[0].text.rstrip().endswith("OSError: broken")
    assert 'failures="0" errors="0" skipped="1"' in (tmp_path / "junit.xml").read_text()


def test_a_failure_in_a_tolerated_group_is_not_called_awaited(
    virtual: Virtual, tmp_path: Path
) -> None:
    group = Scheduler(Job(fail, label="bad"), label="group", critical=False)
    file = JUnit(tmp_path / "junit.xml")
    assert virtual(functools.partial(Scheduler(group).co_run, instruments=[file]))
    (case,) = cases_in(tmp_path / "junit.xml").values()
    assert case.is_skipped
    assert case.result[0].message == "failed (did not count): OSError: broken"


def test_a_failure_in_a_tolerated_group_counts_no_more_if_the_run_fails(
    virtual: Virtual, tmp_path: Path
) -> None:
    """It was a failure of the suite when another job had failed, or the run had timed out, which it then hid."""
    inner = Scheduler(Job(fail, label="bad"), label="inner")
    group = Scheduler(inner, label="group", critical=False)
    other = Job(fail, label="other")
    file = JUnit(tmp_path / "junit.xml")
    run = Scheduler(group, other).co_run
    assert not virtual(functools.partial(run, instruments=[file]))
    assert 'failures="1" errors="0" skipped="1"' in Path(file.path).read_text()
    late = Scheduler(
        Scheduler(Job(fail), critical=False), Job(anyio.sleep_forever), timeout=1
    )
    assert not virtual(functools.partial(late.co_run, instruments=[file]))
    assert 'failures="0" errors="1" skipped="2"' in Path(file.path).read_text()


def test_the_junit_file_has_no_redacted_text(tmp_path: Path) -> None:
    secret = CommandJob(
        ["sh", "-c", "echo hunter2; exit 1"], redact=True, stdout=subprocess.PIPE
    )
    Scheduler(secret).run(instruments=[JUnit(tmp_path / "junit.xml")])
    assert "hunter2" not in (tmp_path / "junit.xml").read_text()


def test_only_the_last_attempt_of_a_retried_scheduler_counts(
    virtual: Virtual, tmp_path: Path
) -> None:
    inner = Scheduler(
        Job(flaky(), label="flaky", critical=True), label="inner", retry=1
    )
    trace = Trace()
    instruments = JUnit(tmp_path / "junit.xml"), trace
    virtual(run_and_report, Scheduler(inner, label="all"), *instruments)
    assert {
        name: kinds(case) for name, case in cases_in(tmp_path / "junit.xml").items()
    } == {"all/inner: flaky": []}
    save(trace, tmp_path / "report.html")
    assert "1 job succeeded" in (tmp_path / "report.html").read_text()


def test_a_report_file_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = JUnit(tmp_path / "no" / "junit.xml")
    assert Scheduler(Job(nothing)).run(instruments=[report])
    assert "cannot be written" in caplog.text
    assert not report.is_written


def test_a_run_that_went_wrong_has_one_error_in_its_first_suite_alone(
    virtual: Virtual, tmp_path: Path
) -> None:
    inner = Scheduler(Job(nap, 9, label="b"), label="inner")
    scheduler = Scheduler(Job(nap, 9, label="a"), inner, timeout=1, label="all")
    path = tmp_path / "junit.xml"
    virtual(functools.partial(run_and_report, scheduler, JUnit(path)))
    root = ElementTree.parse(path).getroot()
    errors = {suite.get("name"): suite.get("errors") for suite in root}
    assert (root.get("errors"), errors) == ("1", {"all": "1", "all/inner": "0"})
    assert [len(suite.findall(".//error")) for suite in root] == [1, 0]


WHOLE = """
suites all: 14 tests, 3 failures, 0 errors, 5 skipped, 8.000
suite all: 9 tests, 1 failures, 0 errors, 4 skipped, 26.000
  quick 0.500
  optional 1.000
    skipped OSError: failed (tolerated): OSError: broken
  bad 1.500
    failure OSError: OSError: broken
    rerunFailure OSError: OSError: broken
    rerunFailure OSError: OSError: broken
  after 0.000
    skipped: not run, because bad failed
  behind 0.000
    skipped: not run, because bad failed
  fine 3.000
    flakyFailure OSError: OSError: again
    flakyFailure OSError: OSError: again
  long 5.000
    skipped: moved on after its timeout
  last 7.000
  watch 8.000
suite all/inner: 3 tests, 1 failures, 0 errors, 1 skipped, 4.000
  sure 1.000
  odd 0.000
    skipped: it was skipped
  sick 3.000
    failure Flaw: Flaw: of inner
    rerunFailure Flaw: Flaw: of inner
suite all/inner/deep: 2 tests, 1 failures, 0 errors, 0 skipped, 2.000
  late 1.000
  ill 1.000
    failure KeyError: KeyError: 'second'
    rerunFailure KeyError: KeyError: 'first'
"""


def test_the_junit_file_says_all_of_each_job(virtual: Virtual, tmp_path: Path) -> None:
    """Those that ended first come first, as do earlier failures, also of a group in a group that was tried again."""

    async def ill() -> None:
        await anyio.sleep(1)
        raise errors.pop(0)

    errors = [KeyError("first"), KeyError("second")]
    bad = Job(fail, 0.5, label="bad", retry=2)
    after = Job(nap, label="after", required=bad)
    deep = Scheduler(Job(nap, label="late"), Job(ill, label="ill"), label="deep")
    sure = Job(nap, label="sure")
    inner = Scheduler(
        sure,
        Job(nothing, label="odd", required=sure, run_if="failed"),
        Job(fail, 3, Flaw("of inner"), label="sick", required=sure),
        deep,
        label="inner",
        retry=1,
    )
    scheduler = Scheduler(
        Job(nap, 7, label="last"),
        Job(nap, 99, label="watch", forever=True),
        bad,
        inner,
        after,
        Job(nap, 0, label="behind", required=after),
        Job(nap, 9, label="long", timeout=5, on_timeout="move_on"),
        Job(fails_twice, label="fine", retry=2),
        Job(fail, label="optional", critical=False),
        Job(nap, 0.5, label="quick"),
        label="all",
    )
    virtual(run_and_report, scheduler, JUnit(tmp_path / "junit.xml"))
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    lines: list[str] = []
    for suite in (root, *root):
        counts = [
            f"{suite.get(key)} {key}"
            for key in ("tests", "failures", "errors", "skipped")
        ]
        lines.append(
            f"{suite.tag.removeprefix('test')} {suite.get('name')}: {', '.join(counts)}, {suite.get('time')}"
        )
        for case in suite.findall("testcase"):
            assert case.get("classname") == suite.get("name")
            lines.append(f"  {case.get('name')} {case.get('time')}")
            lines += [
                f"    {part.tag} {part.get('type', '')}".rstrip()
                + f": {part.get('message')}"
                for part in case
            ]
    assert "\n".join(lines) == WHOLE.strip()
    for suite in root:
        began = datetime.fromisoformat(suite.get("timestamp", ""))
        assert abs(datetime.now(UTC) - began) < timedelta(days=1)
        assert suite.get("hostname") == platform.node()
