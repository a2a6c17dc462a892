"""How commands are ended: the whole process group, by SIGTERM first, for any reason and on both backends."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import CommandJob, Job, JobState, JobTimeout, Retry, Scheduler, StopReason
from trioflow.abc import fraction_done
from trioflow.jobs.posix import _processes
from ...bodies import raising, ran, run
from ...places import patiently
from ...pythons import Python
from ..posix.process_trees import FORKING, STUBBORN, TREE, Watched, until_there
from ..posix.process_trees import watched as watched
from .commands import PIPE

ENDS = ("timeout", "cancel", "critical", "scheduler's timeout", "scheduler's cancel")


def sh(line: str, **options: Any) -> CommandJob:
    return CommandJob(line, shell=True, **{"terminate_grace": 0.05, **options})


def armed(line: str, flag: Path, **options: Any) -> CommandJob:
    """Return a command whose shell has set its trap before anything else happens in this program."""
    trap, _, rest = line.rpartition("TERM; ")
    first = f"{trap}TERM; " if trap else ""
    return sh(
        f"{first}touch '{flag}'; {rest}",
        on_start=lambda job: until_there(flag),
        **options,
    )


def until_ended(job: CommandJob) -> None:
    """Wait until the process of a job has ended, and leave the exit code to the job."""
    assert job.pid is not None
    os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)


def ended_by(
    how: str, commands: list[CommandJob], backend: str, timeout: float
) -> Scheduler:
    scheduler = Scheduler(*commands, label="all")

    def end() -> None:
        if how == "cancel":
            for job in commands:
                job.cancel()
        elif how == "scheduler's cancel":
            scheduler.cancel()
        elif how == "critical":
            raise OSError("broken")

    async def main() -> None:
        while not all(job.pid for job in commands):  # noqa: ASYNC110 - nothing tells that all of them are there
            await anyio.sleep(0.002)
        await anyio.sleep(0.05)
        end()

    if how == "timeout":
        for job in commands:
            job.timeout = timeout
    elif how == "scheduler's timeout":
        scheduler.timeout = timeout
    else:
        scheduler.add(Job(main, critical=True))
    scheduler.run(backend=backend)
    return scheduler


STATES = {
    "timeout": (JobState.FAILED, StopReason.FAILED),
    "cancel": (JobState.CANCELLED, StopReason.COMPLETED),
    "critical": (JobState.CANCELLED, StopReason.CRITICAL),
    "scheduler's timeout": (JobState.CANCELLED, StopReason.TIMEOUT),
    "scheduler's cancel": (JobState.CANCELLED, StopReason.CANCELLED),
}


@pytest.mark.parametrize("how", ENDS)
@patiently(0.4, 4, 40)
def test_process_tree_is_always_ended(
    backend: str, watched: Watched, tmp_path: Path, how: str, unit: float
) -> None:
    """Whatever ends a job ends its whole process tree, even one that ignores SIGTERM or forks without end."""
    lines = [TREE, STUBBORN, FORKING]
    commands = [
        armed(line, tmp_path / str(number)) for number, line in enumerate(lines)
    ]
    commands.append(
        armed(STUBBORN, tmp_path / "pipes", stdout=PIPE, stderr=subprocess.STDOUT)
    )
    scheduler = ended_by(how, commands, backend, unit)
    assert watched.alive() == []
    assert ({job.state for job in commands}, scheduler.stop_reason) == (
        {STATES[how][0]},
        STATES[how][1],
    )
    signals = [
        job.last_result.signal for job in commands if job.last_result is not None
    ]
    assert signals == [signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL]


@pytest.mark.soak
@pytest.mark.parametrize("how", ENDS)
def test_two_hundred_process_trees_are_ended_at_once(
    backend: str, watched: Watched, how: str
) -> None:
    commands = [
        sh(
            (STUBBORN, STUBBORN, TREE, FORKING)[
                number % 4 if number < 20 else number % 3
            ]
        )
        for number in range(200)
    ]
    ended_by(how, commands, backend, 3)
    assert watched.gone_in_time()


def test_a_program_may_clean_up_after_sigterm_during_its_grace(
    backend: str, tmp_path: Path
) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    line = f"trap 'sleep 0.1; touch {cleaned}; exit 7' TERM; sleep 1000 & wait"
    job = ran(backend, armed(line, ready, terminate_grace=20, timeout=0.1))
    assert isinstance(job.raised_exception(), JobTimeout)
    assert job.last_result is not None
    assert (job.last_result.returncode, cleaned.exists()) == (7, True)


def test_terminate_grace_of_zero_kills_at_once(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With `terminate_grace=0`, a command that ignores SIGTERM is killed, and no log message blames another user."""
    line = "trap '' TERM; while :; do sleep 1000; done"
    job = ran(backend, armed(line, tmp_path / "armed", terminate_grace=0, timeout=0.1))
    assert job.last_result is not None
    assert job.last_result.signal is signal.SIGKILL
    assert "another user" not in caplog.text


@pytest.mark.parametrize("line", ["exec sleep 1000", "sleep 1000 & exit 0"])
def test_a_process_of_another_user_does_not_delay_the_timeout(
    backend: str,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    line: str,
) -> None:
    """A command run by sudo, which cannot be signalled, must not delay the end of the run."""
    options: dict[str, Any] = {
        "timeout": 0.1,
        "terminate_grace": 0.3,
        "label": "foreign",
    }
    job = sh(
        line,
        **options,
        on_start=lambda job: monkeypatch.setattr(
            os, "killpg", raising(PermissionError(1, "Operation not permitted"))
        ),
    )
    run(backend, job)
    assert isinstance(job.raised_exception(), JobTimeout)
    assert "'foreign': process group" in caplog.text
    assert "belongs to another user" in caplog.text


def test_a_stopped_command_is_continued_so_that_sigterm_ends_it(
    backend: str, watched: Watched
) -> None:
    """A stopped process does not react to SIGTERM alone, so it is continued as well."""
    job = ran(backend, sh("kill -STOP $$; sleep 1000", timeout=0.1, terminate_grace=20))
    assert watched.alive() == []
    assert job.last_result is not None
    assert job.last_result.signal is signal.SIGTERM


LEFTOVERS = ("exec sleep 1000", 'trap "" TERM; exec sleep 1000', FORKING)


@pytest.mark.parametrize("leftovers", ["wait", "end"])
def test_background_processes_of_a_successful_command_are_ended(
    backend: str, watched: Watched, leftovers: str
) -> None:
    left: list[list[str]] = []
    jobs = [
        sh(
            f"({line}) & sleep 0.05; exit 0",
            leftovers=leftovers,
            on_settled=lambda job: left.append(watched.commands()),
        )
        for line in LEFTOVERS
    ]
    run(backend, *jobs, jobs_window=1)
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 3
    assert left == [[], [], []]


def test_leftovers_may_finish_their_work_before_the_job_settles(
    backend: str, tmp_path: Path
) -> None:
    """A job waits for background processes of its command: a shell may exit before its `>(gzip)` has written all."""
    file = tmp_path / "x"
    job = ran(
        backend,
        sh(
            f"(sleep 0.2; echo late > {file}; echo more) & exit 0",
            stdout=PIPE,
            terminate_grace=1000,
        ),
    )
    assert job.result().stdout == b"more\n"
    assert file.read_text() == "late\n"


@patiently(1, 10, 60)
def test_leftovers_get_sigterm_when_their_grace_is_over(
    backend: str, tmp_path: Path, unit: float
) -> None:
    ready, file = tmp_path / "ready", tmp_path / "x"
    job = sh(
        f"(trap 'sleep 0.1; echo cleaned > {file}; exit' TERM; touch {ready}; while :; do sleep 0.01; done) & "
        f"until test -e {ready}; do sleep 0.01; done",
        terminate_grace=unit,
    )
    run(backend, job)
    assert job.state is JobState.SUCCEEDED
    assert job.result().elapsed >= unit
    assert file.read_text() == "cleaned\n"


def test_a_timeout_ends_leftovers_and_fails_the_job(
    backend: str, watched: Watched
) -> None:
    """A timeout fails a job whose background processes still run, although the command itself has succeeded."""
    job = ran(
        backend,
        sh(
            "sleep 1000 & exit 0",
            terminate_grace=1000,
            timeout=0.1,
            on_start=until_ended,
        ),
    )
    assert isinstance(job.raised_exception(), JobTimeout)
    assert (
        "its program had ended (exit code 0), but processes that it had started"
        in str(job.raised_exception())
    )
    assert job.last_result is not None
    assert (job.last_result.returncode, watched.alive()) == (0, [])


def test_a_cancellation_ends_leftovers(backend: str, watched: Watched) -> None:
    async def cancel() -> None:
        while not job.pid:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)  # now they are waited for
        scheduler.cancel()

    job = sh("sleep 1000 & exit 0", terminate_grace=1000, on_start=until_ended)
    scheduler = Scheduler(job, Job(cancel))
    scheduler.run(backend=backend)
    assert (job.state, watched.alive()) == (JobState.CANCELLED, [])


def test_a_failed_command_settles_when_its_leftovers_have_ended(
    backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "x"
    job = ran(backend, sh(f"(sleep 0.1; touch {file}) & exit 3", terminate_grace=20))
    assert (job.state, file.exists()) == (JobState.FAILED, True)


def be_busy(job: CommandJob) -> None:
    """Block the loop until the process has ended, and its timeout of 0.05 s is over."""
    until_ended(job)
    time.sleep(0.06)


def test_timeout_ends_leftovers_of_a_command_that_ended_while_the_loop_was_busy(
    backend: str, watched: Watched
) -> None:
    job = ran(
        backend,
        sh("sleep 1000 & exit 0", terminate_grace=1000, timeout=0.05, on_start=be_busy),
    )
    assert isinstance(job.raised_exception(), JobTimeout)
    assert watched.alive() == []


def test_a_command_that_ended_just_before_its_timeout_has_not_timed_out(
    backend: str, watched: Watched
) -> None:
    """A command that ends before its timeout has not timed out, even if the loop is busy until the timeout is over."""
    job = ran(backend, sh("exit 0", timeout=0.05, on_start=be_busy))
    assert (job.state, job.timed_out) == (JobState.SUCCEEDED, False)


ON_A_TERMINAL = """
import pty, sys
from trioflow import CommandJob, Scheduler
program = "trap 'echo INT' INT; ps -o pid=,sid= -p $$; true < /dev/tty || echo none; touch $0; sleep 1000 & wait"
job = CommandJob(["sh", "-c", program, sys.argv[2]], terminate_grace=20)
try:
    Scheduler(job).run(backend=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", job.last_result.signal.name)
"""


def test_ctrl_c_on_a_terminal_reaches_only_controlling_program(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    terminal, slave = pty.openpty()
    words = ["-c", ON_A_TERMINAL, backend, str(tmp_path / "started")]
    process = Python(
        words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    until_there(tmp_path / "started")
    os.write(terminal, b"\x03")
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(terminal, 1000):
            shown += piece
    os.close(terminal)
    assert process.wait() == 0
    first, *others = shown.decode().splitlines()
    assert len(set(first.split())) == 1
    assert "none" in others
    assert others[-1].endswith("interrupted SIGTERM")
    assert "INT" not in others
    assert watched.alive() == []


def test_a_cancellation_does_not_shorten_the_grace_of_a_command(
    backend: str, tmp_path: Path
) -> None:
    asked, cancelled = tmp_path / "asked", tmp_path / "cancelled"
    clean_up = f"touch {asked}; until test -e {cancelled}; do sleep 0.01; done; sleep 0.1; exit 7"
    line = f"trap '{clean_up}' TERM; while :; do sleep 0.01; done"
    job = armed(line, tmp_path / "armed", timeout=0.1, terminate_grace=1000)

    async def cancel_late() -> None:
        await anyio.to_thread.run_sync(until_there, asked)
        scheduler.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.touch()

    scheduler = Scheduler(job, Job(cancel_late))
    scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert job.last_result is not None
    assert job.last_result.returncode == 7


def test_native_cancellations_do_not_interrupt_the_end_of_a_command(
    watched: Watched,
) -> None:
    """A command is ended completely, even if asyncio's own cancellation hits its task again and again."""
    tasks: list[asyncio.Task[Any]] = []
    job = sh(
        STUBBORN,
        on_start=lambda job: tasks.append(asyncio.current_task()),
        terminate_grace=0.1,
    )  # type: ignore[arg-type]

    async def bother() -> None:
        while not tasks:  # noqa: ASYNC110 - this is quicker than an event
            await anyio.sleep(0.001)
        while not job.is_settled():
            tasks[0].cancel()
            await anyio.sleep(0.005)

    Scheduler(job, Job(bother)).run(backend="asyncio")
    assert watched.alive() == []
    assert job.is_settled()


def test_without_pidfd_a_thread_waits_for_each_command(
    backend: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `pidfd_open`, a thread that waits and a pipe take its place."""
    monkeypatch.setattr(
        _processes.os, "pidfd_open", raising(OSError(38, "Function not implemented"))
    )
    good, late = sh("echo a", stdout=PIPE), sh(STUBBORN, timeout=0.1)
    run(backend, good, sh("exit 3", check=False), late)
    assert good.result().stdout == b"a\n"
    assert isinstance(late.raised_exception(), JobTimeout)
    assert watched.alive() == []


@pytest.mark.soak
def test_a_command_of_15_seconds_survives_while_its_scheduler_is_idle(
    backend: str,
) -> None:
    """No parent-death signal is used: it would come when the spawning thread ends, as trio's do after 10 s."""
    job = ran(backend, sh("sleep 15; echo lived", stdout=PIPE))
    assert job.result().stdout == b"lived\n"


@pytest.mark.parametrize(
    "command", [["srun", "-n1", "work"], ["sbatch", "--wait", "--wrap", "work"]]
)
@pytest.mark.parametrize("how", ["timeout", "Ctrl-C"])
def test_a_program_that_has_queued_work_elsewhere_takes_it_back(
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    how: str,
) -> None:
    """`srun` and `sbatch --wait` get the SIGTERM at which they cancel their job of Slurm, and the time to do so. A
    script is in place of Slurm's programs, which do so when they get it."""
    program, queue = tmp_path / command[0], tmp_path / "queue"
    program.write_text(
        f"#!/bin/sh\ntrap 'sleep 0.2; rm {queue}; exit 1' TERM\ntouch {queue}\nwhile :; do sleep 0.01; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    job = CommandJob(
        command,
        on_start=lambda _: until_there(queue),
        timeout=0.1 if how == "timeout" else None,
    )

    async def interrupt() -> None:
        await anyio.to_thread.run_sync(until_there, queue)
        if how == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)

    with contextlib.suppress(KeyboardInterrupt):
        run(backend, job, Job(interrupt))
    assert job.state is (JobState.FAILED if how == "timeout" else JobState.CANCELLED)
    assert not queue.exists()


# --- commands with an `idle_timeout`: what they write, wherever it goes, is a sign of life

PAUSE = 0.27


def tick(idle: float) -> str:
    """Return a shell line that takes longer than this `idle_timeout`, which is much longer than its pauses."""
    return f"for n in 1 2 3 4; do sleep {PAUSE * idle}; echo $n; done"


def timeout_of(job: Any) -> JobTimeout:
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    assert error.job is job
    return error


@patiently(0.4, 4, 30)
def test_output_is_a_sign_of_life(
    backend: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], unit: float
) -> None:
    """Output to any destination postpones the idle timeout, and a command that falls silent is ended."""
    capfd.readouterr()
    files = {name: tmp_path / "made" / name for name in ("path", "stderr")} | {
        "file": tmp_path / "opened"
    }
    with open(files["file"], "w") as file:
        options: dict[str, dict[str, Any]] = {
            "pipe": {"stdout": PIPE},
            "nothing": {"stdout": subprocess.DEVNULL},
            "path": {"stdout": files["path"]},
            "file": {"stdout": file},
            "stderr": {"stdout": files["stderr"], "stderr": subprocess.STDOUT},
            "inherited": {},
        }
        jobs = {}
        for where, given in options.items():
            says = (
                tick(unit).replace("$n", "$n >&2") if where == "stderr" else tick(unit)
            )
            jobs[where] = CommandJob(
                f"{says}; sleep 99", shell=True, idle_timeout=unit, **given
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", sys.__stdout__)
            Scheduler(*jobs.values()).run(backend=backend)
    for job in jobs.values():
        error = timeout_of(job)
        assert (error.missing, error.seconds) == ("output", unit)
        assert job.elapsed is not None
        assert job.elapsed > (4 * PAUSE + 1) * unit - 0.01
    pipe = jobs["pipe"].last_result
    written = {
        "pipe": pipe and pipe.stdout,
        "inherited": capfd.readouterr().out.encode(),
    }
    written |= {where: path.read_bytes() for where, path in files.items()}
    assert written == dict.fromkeys(written, b"1\n2\n3\n4\n")


@patiently(0.4, 4, 30)
def test_a_command_that_writes_to_its_end_succeeds(backend: str, unit: float) -> None:
    """A command that writes to its end loses no output, and its leftovers may be silent beyond the idle timeout."""
    job = CommandJob(
        f"{tick(unit)}; (sleep {1.3 * unit}; echo left) &",
        shell=True,
        stdout=PIPE,
        idle_timeout=unit,
    )
    assert Scheduler(job).run(backend=backend, check=True)
    assert job.result().stdout == b"1\n2\n3\n4\nleft\n"


def test_timeout_ends_a_command_that_never_stops_writing(backend: str) -> None:
    job = ran(
        backend,
        CommandJob(["yes"], stdout=subprocess.DEVNULL, idle_timeout=5, timeout=0.1),
    )
    assert timeout_of(job).missing is None


def test_an_on_line_callback_may_report_the_progress_of_a_command(backend: str) -> None:
    job = CommandJob(
        "for n in 20 50 90; do sleep 0.1; echo $n; done", shell=True, idle_timeout=30,
        on_line=lambda job, line: job.progress(int(line) / 100),
    )  # fmt: skip
    assert Scheduler(job).run(backend=backend, check=True)
    assert fraction_done(job) == 0.9


@patiently(0.4, 4, 30)
def test_an_idle_command_is_retried(backend: str, tmp_path: Path, unit: float) -> None:
    seen = tmp_path / "seen"
    job = CommandJob(
        f"if test -e {seen}; then echo again; else touch {seen}; sleep 99; fi", shell=True, stdout=PIPE,
        idle_timeout=unit, retry=Retry(1, first=0, on=JobTimeout),
    )  # fmt: skip
    assert Scheduler(job).run(backend=backend, check=True)
    assert (job.result().stdout, job.attempts, job.timed_out) == (b"again\n", 2, True)


@patiently(0.4, 4, 30)
def test_output_is_a_sign_of_life_of_the_enclosing_scheduler(
    backend: str, unit: float
) -> None:
    writes = CommandJob(
        f"{tick(unit)}; sleep 99", shell=True, stdout=subprocess.DEVNULL
    )
    inner = ran(backend, Scheduler(writes, idle_timeout=unit))
    assert timeout_of(inner).missing == "progress of its jobs"
    assert inner.elapsed is not None
    assert inner.elapsed > (4 * PAUSE + 1) * unit - 0.01
