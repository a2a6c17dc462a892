"""`pin`, `nice`, `memory_limit`: what a command may use."""

import os
import sys
from pathlib import Path

import pytest
from trioflow import CommandError, CommandJob, JobState, Scheduler
from ...bodies import run
from ..posix.process_trees import Watched
from ..posix.process_trees import watched as watched
from .commands import PIPE, failure_of, python

CPUS = sorted(os.sched_getaffinity(0))
AFFINITY = "import os; print(sorted(os.sched_getaffinity(0)))"


def test_pin_binds_each_slot_to_one_cpu(backend: str, tmp_path: Path) -> None:
    """With `pin="slot"`, slot k runs on CPU k modulo the number of CPUs, and this program itself is not bound."""
    window = len(CPUS) + 1
    all_run = f"open('run', 'a').write('.')\nwhile os.path.getsize('run') < {window}: time.sleep(0.01)"
    code = f"{AFFINITY}\nimport time\n{all_run}"
    jobs = [python(code, stdout=PIPE, pin="slot", cwd=tmp_path) for _ in range(window)]
    after = python(AFFINITY, stdout=PIPE, pin="slot", required=jobs)
    run(backend, *jobs, after, jobs_window=window)
    expected = [[CPUS[number % len(CPUS)]] for number in range(window)]
    assert [job.result().stdout for job in jobs] == [f"{one}\n".encode() for one in expected]
    assert after.result().stdout == f"[{CPUS[0]}]\n".encode()
    assert sorted(os.sched_getaffinity(0)) == CPUS


def test_a_pinned_slot_is_released_however_the_command_ended(backend: str) -> None:
    """After a failure, a failed start and a timeout, the next pinned command gets the first CPU again."""
    jobs = [
        CommandJob(["false"], pin="slot"),
        CommandJob(["no such program"], pin="slot"),
        CommandJob(["sleep", 100], pin="slot", timeout=0.02),
        python(AFFINITY, stdout=PIPE, pin="slot"),
    ]
    run(backend, *jobs, jobs_window=1)
    assert jobs[-1].result().stdout == f"[{CPUS[0]}]\n".encode()


def test_pinned_slots_are_counted_for_each_scheduler(backend: str) -> None:
    inner = python(AFFINITY, stdout=PIPE, pin="slot")
    outer = CommandJob(["sleep", 0.2], pin="slot")
    Scheduler(outer, Scheduler(inner)).run(backend=backend)
    assert inner.result().stdout == f"[{CPUS[0]}]\n".encode()


def test_pinned_commands_that_share_a_cpu_are_reported_once(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning of a run says that pinned commands share a CPU: in a larger window, or in several schedulers."""

    def messages(count: int, *, nested: bool = False) -> list[str]:
        caplog.clear()
        log = tmp_path / f"{count} {nested}"
        line = f"echo >> '{log}'; until test $(wc -l < '{log}') = {count}; do sleep 0.01; done"  # until all run
        jobs = [CommandJob(line, shell=True, pin="slot") for _ in range(count)]
        run(backend, *([Scheduler(job) for job in jobs] if nested else jobs), jobs_window=count)
        return caplog.messages

    assert messages(len(CPUS)) == []
    for shared in (messages(len(CPUS) + 2), messages(3, nested=True)):
        assert len(shared) == 1
        assert f'commands with pin="slot" share CPU {CPUS[0]}, because this program may use' in shared[0]


def test_a_command_without_pin_may_run_on_any_cpu(backend: str) -> None:
    job = python(AFFINITY, stdout=PIPE)
    run(backend, job)
    assert job.result().stdout == f"{CPUS}\n".encode()


def test_nice_is_added_to_the_niceness_of_this_program(backend: str, tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    started = tmp_path / "started"
    line = f"until test -e {started}; do sleep 0.01; done; nice; sh -c nice"
    job = CommandJob(line, shell=True, nice=3, stdout=PIPE, on_start=lambda job: started.touch())
    run(backend, job)
    assert job.result().stdout == f"{own + 3}\n{own + 3}\n".encode()
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


GREEDY = "x = bytes(500_000_000); print(len(x))"  # of which no page is written


def test_memory_limit_applies_from_the_start_of_the_program(backend: str) -> None:
    limited = python(GREEDY, memory_limit=200 << 20, stderr=PIPE)
    free = python(GREEDY, stdout=PIPE)
    enough = python("import resource; print(resource.getrlimit(resource.RLIMIT_AS))", memory_limit=1 << 30, stdout=PIPE)
    run(backend, limited, free, enough)
    error = limited.raised_exception()
    assert isinstance(error, CommandError)
    assert b"MemoryError" in (error.stderr or b"")
    assert free.state is JobState.SUCCEEDED
    assert enough.result().stdout == f"({1 << 30}, {1 << 30})\n".encode()


@pytest.mark.parametrize("program", ["no such program", "/no/such/program", "/tmp"])
def test_start_errors_are_the_same_with_a_memory_limit(backend: str, program: str) -> None:
    error = failure_of(backend, CommandJob([program], memory_limit=1 << 30))
    assert error.returncode is None
    assert "not started" in str(error)


def test_a_program_with_a_memory_limit_is_found_in_the_path_of_its_environment(backend: str) -> None:
    directory, name = os.path.split(os.path.realpath(sys.executable))
    job = CommandJob([name, "-S", "-E", "-c", "print(5)"], memory_limit=1 << 30, env={"PATH": directory}, stdout=PIPE)
    run(backend, job)
    assert job.result().stdout == b"5\n"


def test_a_priority_that_is_not_allowed_fails_the_job_and_ends_the_process(
    backend: str, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    """If a negative `nice=` is not permitted, the error says that it requires root, and no process is left."""

    def refuse(which: int, who: int, priority: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    error = failure_of(backend, CommandJob(["sleep", 1000], nice=-5))
    assert "nice=-5 requires root" in str(error)
    assert watched.alive() == []
