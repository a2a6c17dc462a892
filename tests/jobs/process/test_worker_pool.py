"""Where the worker processes of a run come from, and what becomes of them."""

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Job, JobState, ProcessJob, Retry, Scheduler, StopReason
from trioflow.jobs.process import _worker_main, _worker_pool
from trioflow.testing import virtual_options
from ...bodies import ran, run
from ...places import PATIENCE, patiently
from ...pythons import Python, python
from ..posix.process_trees import Watched, until_there
from ..posix.process_trees import watched as watched
from . import process_bodies as bodies


def meeting(path: Path, number: int) -> list[ProcessJob[tuple[int, int]]]:
    path.mkdir(exist_ok=True)
    return [ProcessJob(bodies.meet, str(path), number) for _ in range(number)]


def test_each_worker_process_is_a_new_interpreter(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    """Each worker process is a child of this program, serves several jobs, and ends with the run."""
    jobs = meeting(tmp_path / "first", 2)
    again = ProcessJob(bodies.whoami, required=jobs)
    run(backend, *jobs, again, processes=2)
    workers = {job.result() for job in jobs}
    assert len(workers) == 2
    assert again.result() in workers
    assert {parent for _, parent in workers} == {os.getpid()}
    assert watched.alive() == []


def test_a_worker_inherits_the_current_environment_and_directory_of_the_program(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new worker gets the current environment and directory of the program, not those at its first."""
    found = list[tuple[str | None, str]]()

    def move(number: int) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        monkeypatch.chdir(directory)
        monkeypatch.setenv("TRIOFLOW_PLACE", str(number))

    async def place(number: int) -> None:
        move(number)
        job = ProcessJob(bodies.place, "TRIOFLOW_PLACE")
        found.append(await job.co_run())
        await ProcessJob(
            bodies.die, "exit"
        ).co_run()  # so that the next one has a new worker

    first = Job(place, 1)
    run(backend, first, Job(place, 2, required=first, run_if="settled"))
    run(backend, Job(place, 3))
    assert found == [(str(number), str(tmp_path / str(number))) for number in (1, 2, 3)]


def test_workers_of_jobs_that_time_out_early_are_not_lost(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    early = [ProcessJob(bodies.add, 1, timeout=0.001) for _ in range(3)]
    late = meeting(tmp_path / "meeting", 2)
    for job in late:
        job.requires(*early, settled=True)
    run(backend, *early, *late, processes=3)
    assert [job.state for job in late] == [JobState.SUCCEEDED] * 2
    assert watched.alive() == []
    run(backend, ProcessJob(bodies.add, 1, timeout=0.001))
    assert watched.alive() == []


def test_ctrl_c_prints_no_tracebacks_of_workers(
    backend: str, tmp_path: Path, watched: Watched
) -> None:
    code = (
        "from tests.jobs.process.process_bodies import nap_forever\n"
        "from trioflow import ProcessJob, Scheduler\nimport sys\n"
        "scheduler = Scheduler(ProcessJob(nap_forever, sys.argv[2]))\n"
        "try:\n    scheduler.run(backend=sys.argv[1])\nexcept KeyboardInterrupt:\n    print(scheduler.stop_reason.name)"
    )
    process = Python(
        ["-c", code, backend, str(tmp_path / "started")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    until_there(tmp_path / "started")
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE)
    assert (out, error) == (f"{StopReason.INTERRUPTED.name}\n", "")
    assert watched.alive() == []


def test_a_program_that_ignores_sigchld_may_have_process_jobs(backend: str) -> None:
    """In a program that ignores SIGCHLD, only the exit code of a worker that has died is unknown. The end of the run
    once raised a ChildProcessError."""
    code = (
        "import signal, sys\nfrom tests.jobs.process.process_bodies import die\n"
        "from trioflow import ProcessJob, Scheduler\n"
        "job, fine = ProcessJob(die, 'exit'), ProcessJob(pow, 2, 3)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "Scheduler(job, fine).run(backend=sys.argv[1])\nprint(job.raised_exception())\nprint(fine.result())"
    )
    found = python("-c", code, backend, text=True)
    died, fine = found.stdout.splitlines()
    assert died.startswith(
        "\"die('exit')\": its process has died: its exit code is unknown"
    )
    assert fine == "8"
    assert "Traceback" not in found.stderr


def test_a_process_job_in_a_removed_working_directory_says_so(
    backend: str, tmp_path: Path
) -> None:
    code = (
        "import os, sys\nfrom trioflow import ProcessJob, Scheduler\njob = ProcessJob(pow, 2, 3)\n"
        "os.rmdir(os.getcwd())\nScheduler(job).run(backend=sys.argv[1])\nprint(job.raised_exception())\n"
        "import psutil\nprint('left:', psutil.Process().children())"
    )
    found = python("-c", code, backend, text=True, cwd=tmp_path)
    assert "left: []" in found.stdout
    assert (
        "could not be started: the working directory of this program has been removed: change to"
        in found.stdout
    )


def test_a_worker_ends_silently_if_the_program_reads_no_answers(tmp_path: Path) -> None:
    """A worker ends silently if its connection is reset, for example after three Ctrl-C."""
    control, theirs = socket.socketpair()
    with theirs, (tmp_path / "errors").open("wb") as errors:
        worker = subprocess.Popen(
            _worker_pool._worker_command(), stdin=theirs, stderr=errors
        )
    for message in (pickle.dumps({}), pickle.dumps((abs, (-1,), {}, {}))):
        control.send(_worker_main.REQUEST_HEADER.pack(len(message), 0) + message)
    while not select.select([control], [], [], 60)[
        0
    ]:  # it has something to read, which is not read
        pass
    control.close()
    assert worker.wait(PATIENCE) == 0
    assert (tmp_path / "errors").read_text() == ""


SLOW = """
import sys, time

UNIT = float(sys.argv[2])
if __name__ != "__main__":
    time.sleep(1.3 * UNIT)
else:
    from trioflow import Job, ProcessJob, Scheduler, ThreadJob
    from trioflow.abc import incidents_of
    from trioflow.jobs.process import _worker_pool

    _worker_pool.REPORT_SECONDS = UNIT

def quick(number):
    return number + 1

if __name__ == "__main__":
    again = ProcessJob(quick, 1, timeout=UNIT, retry=3)
    alone = ProcessJob(quick, 2, timeout=UNIT, forever=True)
    def look():
        return again.state.name, scheduler.explain(again)
    looked = ThreadJob(look)
    scheduler = Scheduler(again, looked, alone, Job(alone.co_run), jobs_window=1, processes=1)
    print(scheduler.run(backend=sys.argv[1]), again.attempts, again.result())
    print(looked.result(), *(incident.message for incident in incidents_of(scheduler)), sep="; ")
"""


@patiently(1, 10)
def test_no_timeout_runs_while_a_worker_imports_the_program(
    backend: str, tmp_path: Path, unit: int
) -> None:
    """With a timeout shorter than the imports, no job succeeded: each killed its worker, and the next imported again.
    Until the worker answers, the job is SCHEDULED, others have its slot, and a line says at last what takes long."""
    (tmp_path / "slow.py").write_text(SLOW, "utf-8")
    found = python(tmp_path / "slow.py", backend, unit, text=True)
    first, second = found.stdout.splitlines()
    assert first == "True 1 2", found.stderr
    assert second.startswith(
        "('SCHEDULED', \"'quick(1)' waits for worker processes: starting a worker process\"); worker"
    )
    assert f"worker processes still import slow.py after {unit} s; put what" in second


def test_a_worker_that_never_answers_fails_its_job_with_the_reason(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    """It has a bound of its own, which is no timeout of the job, and is killed."""
    monkeypatch.setattr(_worker_pool, "START_TIMEOUT", 0.2)
    monkeypatch.setattr(_worker_pool, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(_worker_pool, "_worker_command", lambda: ["sleep", "1000"])
    waiting, alone = (
        ProcessJob(bodies.add, 1, label="waiting"),
        ProcessJob(bodies.add, 1, label="alone"),
    )
    called = Job(alone.co_run)
    run(backend, waiting, called)
    for job, name in (waiting, "waiting"), (called, "alone"):
        assert f"'{name}': its process has not imported " in str(job.raised_exception())
    assert watched.alive() == []


def test_an_idle_worker_exits_as_python_does(backend: str, tmp_path: Path) -> None:
    """What its functions have registered with `atexit`, such as the data of coverage, was lost: each was killed."""
    run(backend, ProcessJob(bodies.register_exit, str(tmp_path / "ended")))
    assert (tmp_path / "ended").exists()


def test_a_worker_that_does_not_exit_is_killed(
    backend: str, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    monkeypatch.setattr(_worker_pool, "EXIT_TIMEOUT", 0.1)
    run(backend, ProcessJob(bodies.leave_thread))
    assert watched.alive() == []


def test_a_worker_has_the_options_of_the_interpreter(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With -O, an `assert` ran in workers alone; -W and -X were lost."""
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags)}
    flags |= {"optimize": 1, "dev_mode": True, "utf8_mode": 1}
    monkeypatch.setattr(sys, "flags", types.SimpleNamespace(**flags))
    warned = ["default", "error::UserWarning"]  # the first one by -X dev
    monkeypatch.setattr(sys, "warnoptions", warned)
    monkeypatch.setattr(sys, "_xoptions", {"dev": True, "utf8": True})
    job = ran(backend, ProcessJob(bodies.options))
    assert job.result() == (False, True, True, warned)


@pytest.mark.parametrize("nice", [0, 5])
def test_workers_that_die_on_import_fail_one_job_each(
    backend: str, nice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, starts = _worker_pool._worker_command(), list[int]()

    def fail_twice() -> object:
        starts.append(1)
        return ["false"] if len(starts) <= 2 else command

    monkeypatch.setattr(_worker_pool, "_worker_command", fail_twice)
    jobs = [
        ProcessJob(bodies.add, 1, nice=nice, retry=Retry(2, first=0)) for _ in range(3)
    ]
    assert Scheduler(*jobs, processes=2).run(backend=backend, timeout=PATIENCE)
    assert sum(job.attempts for job in jobs) == 5


def test_a_worker_that_dies_late_is_ended_once(
    backend: str, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    command, starts, ended = _worker_pool._worker_command(), list[int](), list[int]()
    end = _worker_pool.WorkerProcess.end

    def first_closes_its_socket() -> object:
        starts.append(1)
        return ["sh", "-c", "exec 0<&-; sleep 1000"] if len(starts) == 1 else command

    async def end_and_note(
        worker: _worker_pool.WorkerProcess, grace: float = 0.0
    ) -> str:
        ended.append(worker.pid)
        return await end(worker, grace)

    monkeypatch.setattr(
        _worker_pool, "EXIT_TIMEOUT", 2
    )  # until then, the other one has become ready
    monkeypatch.setattr(_worker_pool, "_worker_command", first_closes_its_socket)
    monkeypatch.setattr(_worker_pool.WorkerProcess, "end", end_and_note)
    jobs = [ProcessJob(bodies.add, 1, retry=1) for _ in range(2)]
    assert Scheduler(*jobs, processes=2).run(backend=backend, timeout=PATIENCE)
    assert len(ended) == len(set(ended)) == len(starts)
    assert watched.alive() == []


FROM_ELSEWHERE = """
from trioflow import ProcessJob, Scheduler
def double(): return 2
if __name__ == "__main__":
    job = ProcessJob(double)
    print(Scheduler(job, log=False).run(timeout=60), job.raised_exception())
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-"],
        ["/dev/stdin"],
        ["/dev/fd/0"],
        ["-m", "cProfile", "-o", "/dev/null", "FILE"],
    ],
    ids=" ".join,
)
def test_a_program_that_workers_cannot_import_is_told_so(
    tmp_path: Path, words: list[str]
) -> None:
    """A worker once read the program from its own standard input, or looked for its functions in `cProfile`."""
    (tmp_path / "flow.py").write_text(FROM_ELSEWHERE)
    done = python(
        *(word.replace("FILE", "flow.py") for word in words),
        cwd=tmp_path,
        input=FROM_ELSEWHERE,
        text=True,
    )
    assert done.stdout.startswith(
        "False 'double()': its function double cannot be sent to a process"
    ), done
    assert "move it to a module" in done.stdout


@pytest.mark.parametrize(
    "word", ["cancel", "cancel it", "drain", "critical", "KeyboardInterrupt"]
)
def test_a_worker_that_is_claimed_for_nothing_ends_with_the_run(
    backend: str, watched: Watched, word: str
) -> None:
    async def say() -> None:
        if word == "KeyboardInterrupt":
            raise KeyboardInterrupt
        if word == "critical":
            raise OSError
        getattr(second if word == "cancel it" else scheduler, word.split()[0])()

    first = ProcessJob(bodies.add, 1)
    second = ProcessJob(bodies.add, 1, required=first, label="second")
    scheduler = Scheduler(
        first, Job(say, required=first, critical=word == "critical"), second
    )
    with contextlib.suppress(KeyboardInterrupt):
        scheduler.run(backend=backend)
    assert watched.alive() == []


@pytest.mark.both_backends
@patiently(0.05, 0.5, 2.0)
def test_no_clock_runs_while_a_worker_imports_the_module_of_the_function(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: float
) -> None:
    """A timeout counts from the call, once its module is imported: the import took longer, and failed each attempt."""
    module = f"imported_late_{tmp_path.name.replace('.', '_')}_{backend}"
    waits = f"if {os.getpid()} != os.getpid():\n    time.sleep({4 * unit})"
    text = f"import os, time\n{waits}\ndef work(n):\n    return n\n"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    work = __import__(module).work
    late = ProcessJob(work, 1, timeout=unit)
    idle = ProcessJob(work, 2, idle_timeout=unit)
    run(backend, late, idle, processes=2)
    for job in (late, idle):
        assert job.state is JobState.SUCCEEDED, job.raised_exception()
        # The time of the import is not that of the job.
        assert job.took is not None
        assert job.elapsed is not None
        assert job.elapsed - job.took > unit


@pytest.mark.both_backends
def test_a_worker_has_real_time_to_load_a_call_on_a_virtual_clock(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jump of the clock ended the wait for the import of a module, and the job failed."""
    module = f"imported_virtually_{tmp_path.name.replace('.', '_')}_{backend}"
    waits = f"if {os.getpid()} != os.getpid():\n    time.sleep(0.2)"
    text = f"import os, time\n{waits}\ndef work(n):\n    return n\n"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = ProcessJob(__import__(module).work, 1)
    Scheduler(job).run(backend=backend, backend_options=virtual_options(backend))
    assert job.result() == 1


SAVED_DURING_IMPORT = """
import pathlib

def work():
    raise ValueError

if __name__ == "__main__":
    from trioflow import ProcessJob, Scheduler
    Scheduler(job := ProcessJob(work), journal="db").run()
    print(*job.raised_exception().__notes__)
else:
    pathlib.Path(__file__).write_text("mine = 1" + chr(10) + pathlib.Path(__file__).read_text())
"""


def test_a_file_that_is_saved_during_its_import_is_neither_quoted_nor_named(
    tmp_path: Path,
) -> None:
    """A worker once took the text that stood there after its import for what it had imported, and a line said so."""
    file = tmp_path / "flow.py"
    file.write_text(SAVED_DURING_IMPORT)
    os.utime(file, (1, 1))
    done = python(str(file), text=True, cwd=tmp_path)
    assert file.read_text().startswith("mine = 1")
    assert "has changed since" not in done.stderr
    assert done.stdout.rstrip().endswith("line 5, in work\nValueError")


def test_no_more_workers_start_than_there_are_jobs(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first in line waited for its worker, a second one was started for each that had its worker by then."""
    started, found, is_there = list[int](), list[int](), anyio.Event()
    start = _worker_pool.WorkerPool._start
    becomes_ready = _worker_pool.WorkerProcess.becomes_ready

    def count(pool: _worker_pool.WorkerPool, nice: int) -> None:
        started.append(nice)
        start(pool, nice)

    async def be_late(worker: _worker_pool.WorkerProcess, seconds: float) -> bool:
        if worker.nice == 0:
            await is_there.wait()
        assert await becomes_ready(worker, seconds)
        found.append(worker.nice)
        is_there.set()
        return True

    monkeypatch.setattr(_worker_pool.WorkerPool, "_start", count)
    monkeypatch.setattr(_worker_pool.WorkerProcess, "becomes_ready", be_late)
    jobs = [ProcessJob(abs, -1, nice=nice) for nice in range(2)]
    run(backend, *jobs, processes=2)
    assert [job.result() for job in jobs] == [1, 1]
    assert (sorted(started), found) == ([0, 1], [1, 0])


WORKERS_OF_OTHER_TEXT = """
import os, pathlib

LIMIT = 1

def work(number):
    if LIMIT == 1:
        os._exit(1)
    return LIMIT

def mend(error):
    text = pathlib.Path(__file__).read_text()
    if "LIMIT = 1" + chr(10) in text:  # The other job has not mended it: a new worker may read it since.
        pathlib.Path(__file__).write_text(text.replace("LIMIT = 1" + chr(10), "LIMIT = 2" + 2 * chr(10)))
    return True

if __name__ == "__main__":
    from trioflow import ProcessJob, Retry, Scheduler

    # A worker serves one niceness, so there are two new ones.
    jobs = [ProcessJob(work, number, nice=number, retry=Retry(1, first=0, on=mend)) for number in range(2)]
    print(Scheduler(*jobs, hold=True, processes=2).run(), [job.result() for job in jobs])
"""


def test_a_new_worker_that_imports_another_text_than_the_program_is_named_once(
    tmp_path: Path,
) -> None:
    """A worker that ended was replaced by one with the text of now, in the middle of a run, and no line said so. Of two
    such workers, one line does."""
    file = tmp_path / "flow.py"
    file.write_text(WORKERS_OF_OTHER_TEXT)
    os.utime(file, (1, 1))
    done = python(str(file), text=True)
    assert done.stdout.strip() == "True [2, 2]"
    assert (
        done.stderr.count(
            "imported flow.py, which has changed since this program loaded it"
        )
        == 1
    )
    file.write_text(WORKERS_OF_OTHER_TEXT.replace("LIMIT = 1\n", "LIMIT = 3\n"))
    os.utime(file, (1, 1))
    done = python(str(file), text=True)
    assert (done.stdout.strip(), "has changed since" in done.stderr) == (
        "True [3, 3]",
        False,
    )
    # It quotes the text that it has imported, and not the lines that have taken the place of these.
    text = WORKERS_OF_OTHER_TEXT.replace("os._exit(1)", "[mend(None)][LIMIT]").replace(
        "hold=True", "journal='db'"
    )
    file.write_text(text.replace("processes=2", "processes=1"))
    os.utime(file, (1, 1))
    assert (
        ", in work\n    [mend(None)][LIMIT]\n"
        in python(str(file), text=True, cwd=tmp_path).stderr
    )


def test_workers_that_import_slowly_are_named_once(
    backend: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """Said once: two workers that are still importing after the time to report are one line of the log."""
    monkeypatch.setattr(_worker_pool, "REPORT_SECONDS", 0.0)
    jobs = [ProcessJob(abs, -number, nice=number) for number in (1, 2)]
    assert Scheduler(*jobs).run(backend=backend)
    said = [
        record.getMessage()
        for record in caplog.records
        if "worker processes still import" in record.getMessage()
    ]
    assert len(said) == 1
