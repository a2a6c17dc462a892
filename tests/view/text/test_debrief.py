"""`debrief`: what it prints after a run, how often, and in which order."""

import functools
import io
import json
import math
import re
import time
from pathlib import Path
from typing import Any
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    Budget,
    Events,
    Job,
    Monitor,
    Pool,
    Retry,
    Scheduler,
    StopReason,
    Trace,
    current_job,
    ref,
)
from trioflow._core.base._user_code import PACKAGE_PREFIX
from trioflow.abc import AbstractJob, Restoration, restoration_of
from trioflow.view import save
from trioflow.view.text._verdict import (
    FOREVER_KEY,
    TALLY_KEYS,
    RestoredJobs,
    Tally,
    create_verdict,
    failures_text,
)
from ...bodies import fail, nap
from ...cli.command_line import trioflow
from ...conftest import Virtual


class Connection(AbstractJob[None]):
    async def co_run(self) -> None:
        pass

    async def co_shutdown(self) -> None:
        raise OSError("lost\x1b")


def debrief_text(scheduler: Scheduler) -> str:
    stream = io.StringIO()
    scheduler.debrief(stream)
    return stream.getvalue()


async def misuse() -> None:
    current_job().progress(2)


async def through_trioflow() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(misuse)


async def with_cause() -> None:
    try:
        await through_trioflow()
    except ExceptionGroup as error:
        raise ValueError("outer") from error


async def with_context() -> None:
    try:
        await through_trioflow()
    except ExceptionGroup:
        raise ValueError("outer")  # noqa: B904


async def in_group() -> None:
    try:
        await through_trioflow()
    except ExceptionGroup as error:
        raise ExceptionGroup("outer", [OSError(), error]) from None


@pytest.mark.parametrize("body", [through_trioflow, with_cause, with_context, in_group])
def test_no_traceback_has_frames_of_trioflow(virtual: Virtual, body: Any) -> None:
    """Neither that of a failure, nor of its cause, its context or the members of a group, at any depth."""
    text = after_run(virtual, Scheduler(Job(body), log=False))
    assert "in misuse" in text
    assert PACKAGE_PREFIX not in text


def after_run(virtual: Virtual, scheduler: Scheduler, **options: Any) -> str:
    virtual(functools.partial(scheduler.co_run, **options))
    return debrief_text(scheduler)


def failures(text: str) -> list[str]:
    return re.findall(r"^(?:critical )?failure of .*:$", text, re.MULTILINE)


def without_positions(text: str) -> str:
    """Remove the frames of the engine, and the parts that depend on the location of this file."""
    text = re.sub(r'  File ".*[/\\]_core[/\\].*\n    .*\n', "", text)
    text = re.sub(
        r"^[ ^~]+\n", "", text, flags=re.MULTILINE
    )  # what marks a part of a line
    return re.sub(r'File ".*[/\\](\w+\.py)", line \d+', r"File \1", text)


# --- the whole
def test_the_debrief_has_its_parts_in_order(virtual: Virtual) -> None:
    """The debrief has verdict, stop reason, culprit, counts, failures and incidents, in this order."""
    first = Job(fail, label="first")
    last = Job(fail, label="last", required=first, critical=True)
    scheduler = Scheduler(
        first,
        last,
        Job(nap, 5, label="nap"),
        Connection(label="connection"),
        label="all",
    )
    assert without_positions(after_run(virtual, scheduler)) == (
        "all  ✗ stopped by a failure of first, because last is critical, 1 failed, 1 blocked, 1 cancelled of 4\n"
        "stop reason: CRITICAL\n"
        "culprit: last\n"
        "4 jobs: 1 succeeded, 1 failed, 1 blocked, 1 cancelled\n"
        "\n"
        "failure of first:\n"
        "Traceback (most recent call last):\n"
        "  File bodies.py, in fail\n"
        '    raise error if error is not None else OSError("broken")\n'
        "OSError: broken\n"
        "\n"
        "not run: last, because first failed\n"
        "\n"
        "incident at connection: co_shutdown of 'connection' raised OSError: lost\\x1b\n"
        "Traceback (most recent call last):\n"
        "  File test_debrief.py, in co_shutdown\n"
        '    raise OSError("lost\\x1b")\n'
        "OSError: lost\\x1b\n"
    )


def test_the_listing_is_shown_on_demand(virtual: Virtual) -> None:
    """With `listing=True`, the debrief ends with the listing, and is otherwise the same."""
    scheduler = Scheduler(Job(fail, label="first"))
    without = after_run(virtual, scheduler)
    stream = io.StringIO()
    scheduler.debrief(stream, listing=True)
    assert stream.getvalue() == f"{without}\n1    ✗    <Job first>  1.0 s\n"


def test_the_debrief_groups_equal_failures(virtual: Virtual) -> None:
    """In the debrief, failures of one type from one place share a traceback, below up to ten of their messages."""
    jobs = [
        Job(fail, n + 1, OSError(f"host {n}"), label=f"ping {n}") for n in range(12)
    ]
    others = [
        Job(fail, 20, KeyError("k"), label="other"),
        Job(fail, 30, OSError("c"), label="late", critical=True),
    ]
    text = after_run(virtual, Scheduler(jobs, others))
    assert text.count("Traceback") == 3
    names = [f"  ping {n}: OSError: host {n}" for n in range(10)]
    title = "\n".join(
        ["12 failures of one kind:", *names, "  and 2 more", "the first one:"]
    )
    assert f"\n\n{title}\nTraceback (most recent call last):\n" in text
    assert (
        text.index("critical failure of late:")
        < text.index("12 failures")
        < text.index("failure of other:")
    )


def test_the_debrief_prints_equal_messages_once(virtual: Virtual) -> None:
    text = after_run(
        virtual, Scheduler([Job(fail, label="a"), Job(fail, 2, label="b")])
    )
    assert "\n\n2 failures of one kind:\n  a\n  b\nthe first one:\n" in text
    assert text.count("OSError: broken") == 1


def test_the_debrief_has_the_reason_at_the_end_of_each_message(
    virtual: Virtual,
) -> None:
    """Of long messages of one kind the end was cut: what the program of a failed command wrote last."""
    jobs = [
        Job(fail, n + 1, OSError(f"{'x' * 300}\nreason {n}"), label=f"ping {n}")
        for n in range(2)
    ]
    lines = after_run(virtual, Scheduler(jobs)).splitlines()
    assert [line[-10:] for line in lines if line.startswith("  ping ")] == [
        "x reason 0",
        "x reason 1",
    ]


def test_jobs_with_equal_labels_are_named_by_their_paths(virtual: Virtual) -> None:
    scheduler = Scheduler(
        Scheduler(Job(fail, label="x"), label="in"),
        Job(fail, 2, KeyError(), label="x"),
        Job(fail, 3, ValueError(), label="x"),
    )
    assert failures(after_run(virtual, scheduler)) == [
        "failure of in/x:",
        "failure of x:",
        "failure of x#2:",
    ]


def test_tracebacks_have_no_frames_of_the_engine(virtual: Virtual) -> None:
    assert "_core" not in after_run(virtual, Scheduler(Job(fail), Connection()))


def test_the_debrief_before_the_first_run_has_no_verdict() -> None:
    assert debrief_text(Scheduler(Job(nap, label="nap"))) == (
        "no run has ended\n1 job: 1 idle\n"
    )


def test_the_debrief_of_an_empty_scheduler_has_no_counts() -> None:
    assert debrief_text(Scheduler()) == "no run has ended\n0 jobs: nothing to do\n"


# --- counts, stop reason, culprit
def test_counts_include_nested_jobs(virtual: Virtual) -> None:
    nested = Scheduler(Job(fail), Job(nap))
    text = after_run(virtual, Scheduler(nested, Job(nap, math.inf, forever=True)))
    assert "2 jobs: 1 succeeded, 1 failed, and 1 forever job" in text


async def quit_all(scheduler: Scheduler) -> None:
    scheduler.cancel()
    await anyio.sleep(1)


@pytest.mark.parametrize("reason", ["COMPLETED", "CRITICAL", "TIMEOUT", "CANCELLED"])
def test_the_stop_reason_follows_the_verdict_unless_the_run_completed(
    reason: str, virtual: Virtual
) -> None:
    scheduler = Scheduler()
    jobs = {
        "COMPLETED": Job(fail),
        "CRITICAL": Job(fail, critical=True),
        "TIMEOUT": Job(nap, 10),
        "CANCELLED": Job(quit_all, ref(scheduler)),
    }
    scheduler.add(jobs[reason])
    lines = after_run(virtual, scheduler, timeout=5).splitlines()
    words = {
        "COMPLETED": "1 failed of 1",
        "CRITICAL": "stopped by a critical failure of fail(), 1 failed of 1",
        "TIMEOUT": "timed out, 0 of 1 job succeeded, 1 cancelled",
        "CANCELLED": "cancelled, 0 of 1 job succeeded, 1 cancelled",
    }
    assert lines[0] == f"Scheduler  ✗ {words[reason]}"
    assert (lines[1] == f"stop reason: {reason}") is (reason != "COMPLETED")


def test_the_culprit_is_followed_to_the_innermost_job(virtual: Virtual) -> None:
    inner = Scheduler(Job(fail, label="bad"), label="inner", critical_jobs=True)
    middle = Scheduler(inner, label="middle", critical=True)
    text = after_run(virtual, Scheduler(middle, critical_jobs=True))
    assert (
        "\nculprit: middle (CRITICAL) -> middle/inner (CRITICAL) -> middle/inner/bad\n"
        in text
    )


def test_a_culprit_that_was_removed_is_named_by_its_label(virtual: Virtual) -> None:
    bad = Job(fail, label="bad", critical=True)
    scheduler = Scheduler(bad)
    assert "\nculprit: bad\n" in after_run(virtual, scheduler)
    scheduler.remove(bad)
    assert "\nculprit: bad\n" in debrief_text(scheduler)


# --- failures
def test_reading_the_result_again_does_not_extend_the_traceback(
    virtual: Virtual,
) -> None:
    """Each read of a failed job's result raises the exception again, but does not make its traceback longer."""
    job = Job(fail)
    scheduler = Scheduler(job)
    before = after_run(virtual, scheduler)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"):
            job.result()
    assert debrief_text(scheduler) == before


def test_a_traceback_has_causes_groups_and_notes(virtual: Virtual) -> None:
    error = ExceptionGroup("several", [ValueError("inside")])
    error.add_note("a note")
    error.__cause__ = KeyError("reason")
    text = after_run(virtual, Scheduler(Job(fail, 1, error)))
    assert all(
        part in text
        for part in (
            "ValueError: inside",
            "a note",
            "KeyError: 'reason'",
            "direct cause",
        )
    )


# --- incidents
def test_incidents_of_nested_schedulers_are_listed(virtual: Virtual) -> None:
    deeper = Scheduler(Connection(label="deep"), label="deeper")
    group = Scheduler(Connection(label="in"), deeper)
    text = after_run(virtual, Scheduler(group, Connection(label="out")))
    assert re.findall("^incident at .*: co", text, re.MULTILINE) == [
        "incident at out: co",
        "incident at Scheduler/in: co",
        "incident at Scheduler/deeper/deep: co",
    ]


# --- streams
def test_control_characters_are_escaped(virtual: Virtual) -> None:
    """In the debrief, control characters in labels and messages are escaped, except for the line ends of messages."""
    text = after_run(
        virtual,
        Scheduler(Job(fail, 1, ValueError("red\x1b[31m\nline\rover\tx"), label="a\nb")),
    )
    assert "\nValueError: red\\x1b[31m\nline\\rover" in text
    assert "\nfailure of a\\nb:\n" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_debrief_to_an_object_that_is_not_a_stream_raises() -> None:
    with pytest.raises(
        TypeError, match=r"debrief\(\) of 'Scheduler': file='out.txt' is not a stream"
    ):
        Scheduler().debrief("out.txt")  # type: ignore[arg-type]


def test_the_debrief_names_blocked_jobs_with_the_failure(virtual: Virtual) -> None:
    build = Job(fail, label="build")
    tests = Scheduler(
        *(Job(nap) for _ in range(8)), label="tests", required=build, run_if="succeeded"
    )
    publish = Job(nap, label="publish", required=tests, run_if="succeeded")
    text = after_run(virtual, Scheduler(build, tests, publish, Job(nap, label="other")))
    assert text.endswith("\n\nnot run: tests (8 jobs), publish, because build failed\n")


def test_a_nested_scheduler_that_was_skipped_is_listed(virtual: Virtual) -> None:
    build = Job(nap, label="build")
    undo = Scheduler(
        *(Job(nap) for _ in range(3)), label="undo", required=build, run_if="failed"
    )
    assert after_run(virtual, Scheduler(build, undo)).endswith(
        "\n\nskipped: undo (3 jobs)\n"
    )


def test_runs_without_failures_have_a_positive_verdict(virtual: Virtual) -> None:
    """A run without failures has a positive verdict, even if it had no jobs or some of them were skipped."""
    empty, fine = Scheduler(label="empty"), Scheduler(Job(nap), Job(nap), label="fine")
    assert after_run(virtual, empty).startswith("empty  ✓ nothing to do\n")
    assert after_run(virtual, fine).startswith("fine  ✓ all 2 jobs succeeded\n")
    skipped = Scheduler(
        first := Job(nap), Job(nap, required=first, run_if="failed"), label="skipped"
    )
    assert after_run(virtual, skipped).startswith(
        "skipped  ✓ 1 of 2 jobs succeeded, 1 skipped\n"
    )


def test_a_spent_budget_is_the_reason_why_jobs_did_not_run(virtual: Virtual) -> None:
    first = Job(nap, 1, needs={"usd": 1}, label="first")
    second = Job(nap, 1, needs={"usd": 1}, required=first, label="second")
    scheduler = Scheduler(
        first, second, Job(nap, second, label="third"), pool=Pool(usd=Budget(1))
    )
    assert after_run(virtual, scheduler).endswith(
        "\nnot run: second, third, because the budget usd is spent\n"
    )


@pytest.mark.parametrize("what", ["failures", "blocked jobs", "incidents"])
def test_a_list_of_a_debrief_has_ten_items_and_a_count(
    virtual: Virtual, what: str
) -> None:
    """However many jobs failed, were blocked or had incidents, each list has ten of them, and the number of others."""

    class Closing(Job[None]):
        async def co_shutdown(self) -> None:
            if what == "incidents":
                raise OSError("closing")

    jobs: list[Job[Any]] = []
    for number in range(40):
        bad = Closing(nap if what == "incidents" else fail, 1, label=f"bad {number}")
        jobs.append(bad)
        if what == "blocked jobs":
            jobs += [Job(nap, label=f"next {number}", required=bad) for _ in range(2)]
    lines = after_run(virtual, Scheduler(jobs)).splitlines()
    name = {
        "failures": "  bad ",
        "blocked jobs": "not run: next ",
        "incidents": "incident at bad ",
    }[what]
    assert sum(line.startswith(name) for line in lines) == 10
    count = {
        "failures": "  and 30 more",
        "blocked jobs": "not run: 60 more, because of 30 other failures",
        "incidents": "and 30 more incidents",
    }
    assert count[what] in lines


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_jobs_that_are_dropped_are_counted(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, keep_jobs: bool
) -> None:
    """Verdict, counts and log say the same of jobs that are kept and that are not, also of those in groups."""
    events = io.StringIO()
    scheduler = Scheduler(label="s", keep_jobs=keep_jobs, instruments=[Events(events)])
    inner = Scheduler(
        Job(nap), Job(nap, forever=True), label="inner", keep_jobs=keep_jobs
    )

    async def grow() -> None:
        inner.add(Job(fail, critical=False))
        scheduler.add(Scheduler(Job(fail, critical=False), Job(nap), label="added"))
        scheduler.add(Scheduler(Job(nap, 9), label="slow", timeout=1, critical=False))

    async def main() -> None:
        async with scheduler:
            for job in (
                *[Job(nap) for _ in range(3)],
                inner,
                Job(nap, 99, forever=True),
            ):
                scheduler.add(job)
            inner.add(Job(grow))

    virtual(main)
    verdict, counts, *_ = debrief_text(scheduler).splitlines()
    assert (
        re.sub(" *✓", " ✓", verdict)
        == "s ✓ 6 of 9 jobs succeeded, 1 cancelled, 2 failed (tolerated)"
    )
    assert (
        counts
        == "9 jobs: 6 succeeded, 1 cancelled, 2 failed (tolerated), and 2 forever jobs"
    )
    last = json.loads(events.getvalue().splitlines()[-1])
    assert last["jobs"] == {
        "succeeded": 6,
        "tolerated": 2,
        "cancelled": 1,
        "forever": 2,
    }
    assert "2 jobs of 's' failed; 1 group of 's' failed" in caplog.text


# --- verdicts: their numbers add up, and they say how many jobs a journal has restored, and from when

NOON = 1795521600.0
"""A time on 2026-11-24, in every time zone but the outermost."""


async def squared(number: int) -> int:
    return number**2


async def trained(epoch: int) -> int:
    if current_job().attempts == 1:
        raise ConnectionError("not yet")
    await anyio.sleep(125)
    return epoch


def test_a_verdict_says_how_many_jobs_were_restored_and_from_when(
    virtual: Virtual,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The debrief and `trioflow journal` have the date of the run that ran the restored jobs."""
    for number in (1, 2):
        jobs = [Job(squared, item) for item in range(number)]
        scheduler = Scheduler(*jobs, journal=tmp_path / "run.db")
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: NOON)
            assert virtual(functools.partial(scheduler.co_run))
    assert restoration_of(jobs[0]) == Restoration(NOON, 0.0)
    assert restoration_of(jobs[1]) is None
    verdict = "✓ all 2 jobs succeeded (1 restored from 2026-11-24)"
    assert verdict in trioflow("journal", tmp_path / "run.db").output
    scheduler.debrief()
    assert verdict in capsys.readouterr().out


def test_verdict_says_what_time_was_saved(
    virtual: Virtual, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All views add up what the restored jobs worked when they ran: monitor, debrief, `trioflow journal`, trace. To
    wait between two attempts is no work."""
    said, retry = ", 4 min 10 s saved)", Retry(1, first=60, jitter=False)
    for number in (2, 3):
        scheduler = Scheduler(
            *(Job(trained, epoch, retry=retry) for epoch in range(number)),
            journal=tmp_path / "run.db",
        )
        trace, log = Trace(), io.StringIO()
        assert virtual(
            functools.partial(scheduler.co_run, instruments=[trace, Monitor(file=log)])
        )
        assert (said in log.getvalue()) is (number == 3)
    assert said in trioflow("journal", tmp_path / "run.db").output
    scheduler.debrief()
    assert said in capsys.readouterr().out
    save(trace, tmp_path / "report.html")
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_times_of_restored_jobs_are_described_by_their_dates() -> None:
    """Jobs of several days have the first and the last of them; times that are no dates are left out."""
    restored = RestoredJobs()
    assert restored.describe() == ""
    for settled_at in (None, 1e300, -1e300, float("nan")):
        restored.add(settled_at, None)
    assert restored.describe() == "4 restored"
    for day in (0, 2, 1):
        restored.add(NOON + day * 86400, None)
    assert restored.describe() == "7 restored from 2026-11-24 to 2026-11-26"


# --- the numbers in a verdict add up to the number of jobs, whatever has become of them
OTHERS = r"(\d+) (?:failed|blocked|cancelled|skipped|tolerated|never started|running)\b"
COUNTS = st.dictionaries(
    st.sampled_from([key for key in TALLY_KEYS if key != FOREVER_KEY]),
    st.integers(1, 40),
)


@pytest.mark.parametrize("reason", StopReason)
@given(counts=COUNTS)
def test_the_numbers_in_a_verdict_add_up(
    reason: StopReason, counts: dict[object, int]
) -> None:
    """Of 32 jobs, 30 had succeeded and 1 was blocked: nothing said that the other one was cancelled."""
    counts = {
        key: number
        for key, number in counts.items()
        if getattr(key, "value", "") != "running"
    }
    tally = Tally.from_counts(counts)
    sentence = create_verdict(reason, tally, None).sentence
    total, succeeded, moved_on = (
        tally.job_count,
        *(counts.get(key, 0) for key in TALLY_KEYS[:2]),
    )
    others = sum(map(int, re.findall(OTHERS, sentence)))
    moved = re.search(r"(\d+)(?: jobs?)? moved on", sentence)
    assert others == total - succeeded - moved_on, sentence
    assert (int(moved[1]) if moved else 0) == moved_on, sentence
    for pattern, number in (
        (r"(\d+) of \d+ jobs? succeeded", succeeded),
        (r"(?:of| all) (\d+)\b", total),
    ):
        for found in re.findall(pattern, sentence):
            assert int(found) == number, sentence
    assert sum(map(int, re.findall(OTHERS, failures_text(tally)))) == others
