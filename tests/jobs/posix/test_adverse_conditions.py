"""Troubles of machines: a clock that jumps, a lost terminal, a laptop that sleeps."""

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
import pytest
from trioflow import CommandJob, Job, JobState, JobTimeout, Scheduler, ThreadJob
from trioflow.jobs.posix import _guard
from ...bodies import at_once, run
from ...places import PATIENCE
from ...pythons import Python
from .process_trees import TREE, VARIABLE, Watched, until_there
from .process_trees import watched as watched

# ---- a clock that jumps

JUMPS = """
import os, sys, time
from pathlib import Path
from trioflow import CommandJob, Scheduler, Sequence, ThreadJob, Trace

def jump(text):
    before = time.time()
    Path(os.environ["FAKETIME_TIMESTAMP_FILE"]).write_text(text)
    return time.time() - before

days = [ThreadJob(jump, text, label=text, key=text) for text in ("-2d", "+2d", "-400d")]
jobs = [Scheduler(CommandJob(["sleep", 0.05], timeout=30), day, timeout=30, idle_timeout=30) for day in days]
late = CommandJob(["sleep", 1000], timeout=0.2, terminate_grace=0.1)
trace = Trace()
scheduler = Scheduler(Sequence(*jobs), late, jobs_window=2, instruments=[trace])
result = scheduler.run(backend=sys.argv[1], journal="run.db")
print(result, [int(day.result() // 86400) for day in days], late.timed_out)
print(all(0 <= span.elapsed < 20 for span in trace.spans))
print(scheduler.run(backend=sys.argv[1], journal="run.db"), [day.restored for day in days])
"""


@pytest.mark.ci
@pytest.mark.parametrize("backend", ["trio"])  # neither backend asks the system clock
@pytest.mark.skipif(not shutil.which("faketime"), reason="needs faketime")
def test_jumps_of_the_system_clock_have_no_effect(backend: str, tmp_path: Path) -> None:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    stamp = tmp_path / "stamp"
    stamp.write_text("+0")
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
    }
    found = subprocess.run(
        [sys.executable, "-c", JUMPS, backend],
        env={**os.environ, **fake, "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert found.stdout.splitlines() == [
        "False [-2, 4, -402] True",
        "True",
        "False [True, True, True]",
    ], found.stderr


# ---- a terminal that is closed

ON_A_TERMINAL = f"""
import signal, sys
from pathlib import Path
from trioflow import CommandJob, Monitor, Scheduler
if sys.argv[2] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
limit = 0.7 if sys.argv[2] == "ignored" else None
tree = CommandJob({TREE!r}, shell=True, label="tree", timeout=limit, terminate_grace=0.1)
began = CommandJob(["touch", "began"], label="began")
scheduler = Scheduler(began, tree, CommandJob(["true"], required=tree), instruments=[Monitor()])
result = scheduler.run(backend=sys.argv[1], handle_signals=True)
Path("ended").write_text(f"{{result}} {{scheduler.stop_reason.value}}")
"""


@pytest.mark.parametrize(
    ("backend", "how", "ends"),
    [
        ("trio", "heeded", "False interrupted"),
        ("asyncio", "heeded", "False interrupted"),
        ("trio", "ignored", "False failed"),  # which no event loop hears of
    ],
)
def test_a_closed_terminal_ends_the_run_unless_sighup_is_ignored(
    backend: str, watched: Watched, tmp_path: Path, how: str, ends: str
) -> None:
    master, slave = pty.openpty()
    words = ["-c", ON_A_TERMINAL, backend, how]
    with Python(
        words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        os.close(slave)
        until_there(tmp_path / "began")
        os.close(master)
        process.wait(PATIENCE)
    assert (tmp_path / "ended").read_text() == ends
    assert watched.gone_in_time()


# ---- a laptop that sleeps

SLEEPER = f"""
import os
from trioflow import CommandJob, Scheduler
os.environ[{VARIABLE!r}] = "{{mark}}"
jobs = [CommandJob(["sleep", 0.3], timeout=60) for _ in range(3)]
tell = lambda job: print("asleep", flush=True)
late = CommandJob({TREE!r}, shell=True, timeout=0.3, terminate_grace=0.1, on_start=tell)
scheduler = Scheduler(*jobs, late, CommandJob(["true"], run_if="settled", required=late))
print(scheduler.run(backend="{{backend}}"), [job.state.value for job in scheduler], late.timed_out)
"""


def test_a_run_continues_after_the_computer_was_asleep(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    program = Python(
        ["-c", SLEEPER.format(mark=watched.mark, backend=backend)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "asleep\n"
        everybody = [
            program.pid,
            *(
                int(path.name)
                for path in watched.processes()
                if path.name != str(program.pid)
            ),
        ]
        for how in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everybody if how is signal.SIGSTOP else reversed(everybody):
                with contextlib.suppress(
                    ProcessLookupError
                ):  # it has just become another one
                    os.kill(pid, how)
            time.sleep(0.6 if how is signal.SIGSTOP else 0)
        said, _ = program.communicate(timeout=PATIENCE)
    states = ["succeeded", "succeeded", "succeeded", "failed", "succeeded"]
    assert said == f"False {states} True\n"
    assert watched.gone_in_time()


def test_a_command_that_stops_itself_is_ended_at_its_timeout(
    backend: str, watched: Watched
) -> None:
    job = CommandJob("kill -STOP $$", shell=True, timeout=0.2, terminate_grace=0.1)
    after = CommandJob(["true"], required=job, run_if="settled")
    run(backend, job, after)
    with pytest.raises(JobTimeout):
        job.result()
    assert after.state is JobState.SUCCEEDED
    assert watched.alive() == []


# ---- forks
def forked(ends: object) -> int:
    """Fork, let the child call a function, and return the exit code of the child."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        assert callable(ends)
        ends()
    finally:
        os._exit(7)


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
def test_a_fork_inside_a_job_does_not_affect_other_commands(
    backend: str, watched: Watched
) -> None:
    """A job may fork, in the thread of the loop or another one; the child has no guard and affects no command."""
    beside = CommandJob(["sleep", 0.3])
    jobs = [
        Job(at_once, lambda: forked(int)),
        ThreadJob(forked, int),
        ThreadJob(forked, lambda: os._exit(len(_guard._live_guards))),
    ]
    after = CommandJob("setsid sleep 1000 &", shell=True, required=jobs)
    assert Scheduler(beside, *jobs, after).run(backend=backend, check=True)
    assert [job.result() for job in jobs] == [7, 7, 0]
    assert watched.alive() == []
