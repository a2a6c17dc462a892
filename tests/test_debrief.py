"""`debrief`: what it tells after a run, how often, and in which order."""

from __future__ import annotations

import functools
import io
import math
import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import AbstractJob, Job, JobState, Scheduler
from trioflow._core._outcomes import Failure

from .bodies import fail, nap

if TYPE_CHECKING:
    from .conftest import Virtual


class Connection(AbstractJob[None]):
    """Cannot be shut down."""

    async def co_run(self) -> None:
        pass

    async def co_shutdown(self) -> None:
        raise OSError("lost\x1b")


def debriefed(scheduler: Scheduler) -> str:
    stream = io.StringIO()
    scheduler.debrief(stream)
    return stream.getvalue()


def after_run(virtual: Virtual, scheduler: Scheduler, **options: Any) -> str:
    """What is told after a run."""
    virtual(functools.partial(scheduler.co_run, **options))
    return debriefed(scheduler)


def failures(text: str) -> list[str]:
    """The titles of the failures that are told of, in their order."""
    return re.findall(r"^(?:critical )?failure of .*:$", text, re.MULTILINE)


def without_positions(text: str) -> str:
    """Take out what depends on where this file lies, and the frames of the engine."""
    text = re.sub(r'  File ".*[/\\]_core[/\\].*\n    .*\n', "", text)
    text = re.sub(r"^[ ^~]+\n", "", text, flags=re.MULTILINE)  # what marks a part of a line
    return re.sub(r'File ".*[/\\](\w+\.py)", line \d+', r"File \1", text)


# --- the whole


def test_everything_in_its_order(virtual: Virtual) -> None:
    """Listing, counts, stop reason, culprit, incidents, failures: each a paragraph, or a line of one."""
    first = Job(fail, label="first")
    last = Job(fail, label="last", required=first, critical=True)
    scheduler = Scheduler(first, last, Job(nap, 5, label="nap"), Connection(label="connection"), label="all")
    assert without_positions(after_run(virtual, scheduler)) == (
        "1    ★ ☓    <Job `first`>\n"
        "2    ☉ ⊘    <Job `nap`>\n"
        "3    ☉ ☓    <Connection `connection`>\n"
        "4  ⚠ ★ ☓    <Job `last`>  requires={1}\n"
        "\n"
        "jobs: 4 (1 succeeded, 2 failed, 1 cancelled)\n"
        "stop reason: CRITICAL\n"
        "culprit: 4 <Job `last`>\n"
        "\n"
        "incident at 3 <Connection `connection`>: co_shutdown of 'connection' raised OSError('lost\\x1b')\n"
        "Traceback (most recent call last):\n"
        "  File test_debrief.py, in co_shutdown\n"
        '    raise OSError("lost\\x1b")\n'
        "OSError: lost\\x1b\n"
        "\n"
        "critical failure of 4 <Job `last`>:\n"
        "Traceback (most recent call last):\n"
        "  File bodies.py, in fail\n"
        '    raise error if error is not None else OSError("broken")\n'
        "OSError: broken\n"
        "\n"
        "failure of 1 <Job `first`>:\n"
        "Traceback (most recent call last):\n"
        "  File bodies.py, in fail\n"
        '    raise error if error is not None else OSError("broken")\n'
        "OSError: broken\n"
    )


def test_before_the_first_run() -> None:
    """Before a run all are idle, and there is no stop reason."""
    assert debriefed(Scheduler(Job(nap, label="nap"))) == (
        "1      ⚐    <Job `nap`>\n\njobs: 1 (1 idle)\nstop reason: none, as no run has ended\n"
    )


def test_empty() -> None:
    """An empty scheduler has no listing and no states to count."""
    assert debriefed(Scheduler()) == "jobs: 0\nstop reason: none, as no run has ended\n"


def test_while_it_runs(virtual: Virtual) -> None:
    """During a run one is told how far it has come, and of the failures so far."""
    seen: list[str] = []

    async def look() -> None:
        await anyio.sleep(2)
        seen.append(debriefed(scheduler))

    scheduler = Scheduler(Job(fail, label="bad"), Job(look, label="look"))
    after_run(virtual, scheduler)
    assert "jobs: 2 (1 running, 1 failed)\nstop reason: none, as no run has ended\n" in seen[0]
    assert failures(seen[0]) == ["failure of 1 <Job `bad`>:"]


# --- counts, stop reason, culprit


def test_counts_include_nested_jobs(virtual: Virtual) -> None:
    """Each numbered job is counted, nested schedulers and their jobs too; states in which none is are left out."""
    nested = Scheduler(Job(fail), Job(nap))
    text = after_run(virtual, Scheduler(nested, Job(nap, math.inf, forever=True)))
    assert "jobs: 4, 1 of them schedulers (2 succeeded, 1 failed, 1 cancelled)" in text


async def quit_all(scheduler: Scheduler) -> None:
    scheduler.cancel()
    await anyio.sleep(1)


@pytest.mark.parametrize("reason", ["COMPLETED", "CRITICAL", "TIMEOUT", "CANCELLED"])
def test_stop_reason(reason: str, virtual: Virtual) -> None:
    """The stop reason is told by its name."""
    scheduler = Scheduler()
    jobs = {
        "COMPLETED": Job(fail),
        "CRITICAL": Job(fail, critical=True),
        "TIMEOUT": Job(nap, 10),
        "CANCELLED": Job(quit_all, scheduler),
    }
    scheduler.add(jobs[reason])
    assert f"\nstop reason: {reason}\n" in after_run(virtual, scheduler, timeout=5)


def test_culprit_is_followed_inwards(virtual: Virtual) -> None:
    """Of nested schedulers one sees what stopped each of them, down to the job that began it."""
    inner = Scheduler(Job(fail, label="bad"), label="inner", critical_jobs=True)
    middle = Scheduler(inner, label="middle", critical=True)
    text = after_run(virtual, Scheduler(middle, critical_jobs=True))
    assert "\nculprit: 1 <Scheduler `middle`> (CRITICAL) -> 2 <Scheduler `inner`> (CRITICAL) -> 3 <Job `bad`>\n" in text


def test_culprit_that_ran_out_of_time(virtual: Virtual) -> None:
    """A nested scheduler that its timeout stopped is where the search ends: it has no culprit, but a failure."""
    slow = Scheduler(Job(nap, 10), label="slow", timeout=1, critical=True)
    text = after_run(virtual, Scheduler(slow))
    assert "\nculprit: 1 <Scheduler `slow`> (TIMEOUT)\n" in text
    assert failures(text) == ["critical failure of 1 <Scheduler `slow`>:"]
    assert "JobTimeout: 'slow' did not end within its timeout of 1 s" in text


def test_culprit_that_was_removed(virtual: Virtual) -> None:
    """A culprit that is no member any more has a question mark for a number."""
    bad = Job(fail, label="bad", critical=True)
    scheduler = Scheduler(bad)
    after_run(virtual, scheduler)
    scheduler.remove(bad)
    assert "\nculprit: ? <Job `bad`>\n" in debriefed(scheduler)


# --- failures


def test_critical_failures_come_first(virtual: Virtual) -> None:
    """Critical failures come before others, and each kind in the order in which they settled."""
    nested = Scheduler(Job(fail, 2, label="2"), Job(fail, 4, label="4", critical=True))
    scheduler = Scheduler(Job(fail, 3, label="3"), nested, Job(fail, 1, label="1"))
    assert failures(after_run(virtual, scheduler)) == [
        "critical failure of 4 <Job `4`>:",
        "failure of 5 <Job `1`>:",
        "failure of 3 <Job `2`>:",
        "failure of 1 <Job `3`>:",
    ]


def test_each_failure_once(virtual: Virtual) -> None:
    """A nested scheduler that failed through its own job is not told of again, at any depth."""
    scheduler = Scheduler(Job(fail, label="bad"), critical_jobs=True)
    for _ in range(3):
        scheduler = Scheduler(scheduler, critical_jobs=True)
    text = after_run(virtual, scheduler)
    assert failures(text) == ["critical failure of 4 <Job `bad`>:"]
    assert text.count("OSError: broken") == 1


def test_interruption_once(virtual: Virtual) -> None:
    """A KeyboardInterrupt out of a nested job is told of as the failure of that job alone."""
    scheduler = Scheduler(Scheduler(Job(fail, 1, KeyboardInterrupt(), label="stop"), label="nested"))
    with pytest.raises(KeyboardInterrupt):
        after_run(virtual, scheduler)
    text = debriefed(scheduler)
    assert "\nstop reason: INTERRUPTED\nculprit: 1 <Scheduler `nested`> (INTERRUPTED) -> 2 <Job `stop`>\n" in text
    assert failures(text) == ["failure of 2 <Job `stop`>:"]


def test_blocked_jobs_are_no_failures_of_their_own() -> None:
    """What could not run because of a failure is counted, without a traceback."""
    blocked = Job(nap)
    blocked._state, blocked._outcome = JobState.BLOCKED, Failure(ValueError())
    text = debriefed(Scheduler(blocked))
    assert "jobs: 1 (1 blocked)" in text
    assert failures(text) == []


def test_traceback_is_the_first_one(virtual: Virtual) -> None:
    """Asking for the result, which raises again, adds nothing to what is told."""
    job = Job(fail)
    scheduler = Scheduler(job)
    before = after_run(virtual, scheduler)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"):
            job.result()
    assert debriefed(scheduler) == before


def test_causes_groups_and_notes_are_told(virtual: Virtual) -> None:
    """A traceback has all that Python shows: causes, the members of groups, notes."""
    error = ExceptionGroup("several", [ValueError("inside")])
    error.add_note("a note")
    error.__cause__ = KeyError("reason")
    text = after_run(virtual, Scheduler(Job(fail, 1, error)))
    assert all(part in text for part in ("ValueError: inside", "a note", "KeyError: 'reason'", "direct cause"))


# --- incidents


def test_incidents_of_nested_schedulers(virtual: Virtual) -> None:
    """What nested schedulers report is told as well, each with the job that it is about."""
    text = after_run(virtual, Scheduler(Scheduler(Connection(label="in")), Connection(label="out")))
    assert re.findall("^incident at .*: co", text, re.MULTILINE) == [
        "incident at 3 <Connection `out`>: co",
        "incident at 2 <Connection `in`>: co",
    ]


def test_incident_without_exception(virtual: Virtual) -> None:
    """A shutdown that took too long is told without a traceback."""

    class Slow(Connection):
        async def co_shutdown(self) -> None:
            await anyio.sleep(math.inf)

    text = after_run(virtual, Scheduler(Slow(label="slow"), shutdown_timeout=3))
    assert "\n\nincident at 1 <Slow `slow`>: co_shutdown of 'slow' " in text
    assert "Traceback" not in text


# --- streams


def test_control_characters_are_escaped(virtual: Virtual) -> None:
    """A message keeps its lines; whatever else could move the cursor is escaped, in names too."""
    text = after_run(virtual, Scheduler(Job(fail, 1, ValueError("red\x1b[31m\nline\rover\tx"), label="a\nb")))
    assert "\nValueError: red\\x1b[31m\nline\\rover" in text
    assert "\nfailure of 1 <Job `a\\nb`>:\n" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_ascii_stream(virtual: Virtual) -> None:
    """On a stream that cannot encode the symbols they are ASCII, and so is all else."""
    scheduler = Scheduler(Job(fail, 1, ValueError("漢"), label="字"))
    after_run(virtual, scheduler)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    scheduler.debrief(stream)
    text = raw.getvalue().decode("ascii")
    assert text.startswith("1    * x    <Job `\\u5b57`>")
    assert "ValueError: \\u6f22" in text


def test_prints_on_the_standard_output_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file it goes to what is sys.stdout at the call."""
    scheduler = Scheduler()
    scheduler.debrief()
    assert capsys.readouterr().out == debriefed(scheduler)


def test_no_stream() -> None:
    """What is no stream is refused."""
    with pytest.raises(TypeError, match=r"debrief\(\) of 'Scheduler': file='out.txt' is no stream"):
        Scheduler().debrief("out.txt")  # type: ignore[arg-type]
