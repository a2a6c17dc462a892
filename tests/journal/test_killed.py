"""Runs that are killed, at each write and at random instants, and continue from what they had committed.

Each run is a forked process. Its jobs write their names to a log, so that the test knows what has run."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import CommandJob, CommandResult, Job, Scheduler, current_scheduler
from trioflow.journal import _results
from trioflow.journal._store import JournalStore
from ..conftest import BACKENDS
from .stage import Fault, Stage, adopt_orphans


# ---- scenarios: what a job logs is its path
def functions(stage: Stage) -> Scheduler:
    """Return nested and growing jobs, with results as arguments, one of them a large result."""

    async def work(name: str, *numbers: int) -> int:
        stage.note(name)
        await anyio.sleep(random.choice((0, 0.001, 0.002)))
        return 1 + sum(numbers)

    async def grow() -> None:
        scheduler = current_scheduler()
        for number in range(3):
            scheduler.add(Job(work, f"grown{number}", label=f"grown{number}"))

    async def large(name: str, number: int) -> str:
        stage.note(name)
        return f"{number}" * 100

    first = [Job(work, f"first{number}", label=f"first{number}") for number in range(5)]
    inner = Scheduler(label="in")
    scheduler = Scheduler(first, inner, jobs_window=3)
    last = None
    for number in range(4):
        last = inner.add(
            Job(work, f"in/{number}", *([last] if last else first), label=str(number))
        )
    total = Job(work, "total", *first, label="total", required=inner)
    scheduler.update(
        [total, Job(large, "large", total, label="large"), Job(grow, label="grow")]
    )
    return scheduler


def commands(stage: Stage) -> Scheduler:
    """Return commands that each read what the one before has written."""
    scheduler, before = Scheduler(), None
    for number in range(3):
        source, target = (
            stage.files / f"{number}.txt",
            stage.files / f"{number + 1}.txt",
        )
        code = f"echo {number} >> {stage.log}; printf half > {target}; sleep 0.01; cat {source} >> {target}; echo {number} >> {target}"  # noqa: E501
        code = f"test ! -e {target} && {code}"  # what a killed one has left must be out of the way
        job = CommandJob(
            code,
            shell=True,
            label=str(number),
            reads=[source],
            writes=[target],
            required=before,
        )
        scheduler.add(job)
        before = job
    output = CommandJob(
        ["cat", stage.files / "3.txt"],
        stdout=subprocess.PIPE,
        label="show",
        required=before,
        save=None,
    )
    scheduler.add(output)
    scheduler.add(Job(text, output, label="text", save=None))
    return scheduler


async def text(result: Any) -> str:
    return repr(result.stdout)


@pytest.fixture(params=[(functions, "trio"), (commands, "asyncio")])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "0.txt").write_text("begin\n")
    adopt_orphans(True)
    yield Stage(tmp_path, *request.param)
    adopt_orphans(False)


BOTH = pytest.mark.parametrize(
    "stage", [*itertools.product([functions, commands], BACKENDS)], indirect=True
)
"""Each scenario on each backend; the short tests take each scenario on one."""


def fresh(stage: Stage) -> None:
    for file in stage.files.iterdir():
        if file.is_dir():
            shutil.rmtree(file)
        elif file.name != "0.txt":
            file.unlink()


def expected(stage: Stage) -> str:
    results, _ = stage.complete(journal=False)
    fresh(stage)
    return results


@pytest.fixture(autouse=True)
def no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the times, in which two runs of a command differ."""
    monkeypatch.setattr(_results, "MAX_INLINE_RESULT", 100)
    monkeypatch.setattr(
        CommandResult, "__repr__", lambda self: f"{self.returncode} {self.stdout!r}"
    )


# ---- the tests
def killed_at_writes(stage: Stage, first: int, step: int, *sides: bool) -> set[int]:
    """Kill a run before (False) or after (True) the first write, and so on; return the numbers of restored jobs."""
    right = expected(stage)
    at, finished, restored = first, 0, set()
    while finished < len(sides):
        finished = 0
        for after in sides:
            child = stage.run(Fault(at, after).install)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, -signal.SIGKILL)
            stage.wait()
            finished += code == 0
            restored.add(stage.check(right))
            fresh(stage)
        at += step
    return restored


def test_a_run_killed_at_a_write_of_the_journal_can_be_continued(stage: Stage) -> None:
    """If a run is killed at a write of its journal, committed jobs do not run again. Each thirtieth is tested: before
    others of them for functions, and after others for commands."""
    assert (
        len(
            killed_at_writes(
                stage, *((0, 30, False) if stage.build is functions else (15, 30, True))
            )
        )
        > 1
    )


@BOTH
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_killed_at_any_write_of_the_journal_can_be_continued(
    stage: Stage,
) -> None:
    assert len(killed_at_writes(stage, 0, 1, False, True)) > 3


@BOTH
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_killed_at_two_thousand_instants_can_be_continued(stage: Stage) -> None:
    right = expected(stage)
    begin = time.monotonic()
    stage.complete()
    longest = time.monotonic() - begin
    fresh(stage)
    for _ in range(500):
        child = stage.run()
        time.sleep(random.uniform(0, longest))
        stage.kill(child)
        stage.check(right)
        fresh(stage)


def test_a_run_that_is_killed_repeatedly_completes_in_the_end(stage: Stage) -> None:
    """A run that is killed repeatedly gets a little further each time, since no committed job is lost."""
    right = expected(stage)
    before: set[str] = set()
    for _ in range(3):
        child = stage.run()
        time.sleep(random.uniform(0.02, 0.06))
        stage.kill(child)
        now = stage.committed()
        assert before <= now
        before = now
    stage.check(right)


def test_the_journal_opens_only_after_the_commands_of_a_killed_run_have_ended(
    tmp_path: Path, backend: str
) -> None:
    """The journal of a killed run opens only when the guard has ended all commands, so that the next run meets none."""
    busy = tmp_path / "busy"

    def write_forever(stage: Stage) -> Scheduler:
        code = f"trap '' HUP INT TERM; while :; do date >> {busy}; done"
        return Scheduler(
            *(CommandJob(code, shell=True, label=str(number)) for number in range(5))
        )

    adopt_orphans(True)
    stage = Stage(tmp_path, write_forever, backend)
    child = stage.run()
    while not busy.exists():
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store = JournalStore(stage.journal, writes=True)
    busy.unlink(missing_ok=True)
    assert not busy.exists()
    store.close()
    stage.wait()
    adopt_orphans(False)
    assert not busy.exists()
