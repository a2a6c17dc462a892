"""The server that forks the worker processes of a run, and what happens without one."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import anyio
import pytest

from trioflow import Job, JobState, ProcessJob, Scheduler, StopReason
from trioflow.jobs.process import _fork_server, _worker_main, _worker_pool

from ...bodies import run
from ..posix.process_trees import Watched, until_there
from ..posix.process_trees import watched as watched
from . import process_bodies as bodies

pytestmark = pytest.mark.skipif(not _fork_server.can_fork(), reason="worker processes are not forked on this system")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that takes the code of a module, which the server will import before it forks."""
    monkeypatch.syspath_prepend(tmp_path)
    before: Any = forkserver._forkserver._preload_modules  # type: ignore[attr-defined]

    def write(code: str) -> None:
        (tmp_path / "for_a_server.py").write_text(code)
        multiprocessing.set_forkserver_preload(["for_a_server"])

    yield write
    multiprocessing.set_forkserver_preload(before)


def meeting(path: Path, number: int) -> list[ProcessJob[tuple[int, int]]]:
    """Return jobs that end when each has its own process."""
    path.mkdir(exist_ok=True)
    return [ProcessJob(bodies.meet, str(path), number) for _ in range(number)]


def test_one_server_forks_all_workers_of_a_run(backend: str, watched: Watched, tmp_path: Path) -> None:
    """One server forks all worker processes of a run, and ends with it; the next run has another server."""
    servers = set[int]()
    for name in ("first", "second"):
        jobs = meeting(tmp_path / name, 3)
        run(backend, *jobs, processes=3)
        assert len({job.result()[0] for job in jobs}) == 3
        servers.update(job.result()[1] for job in jobs)
        assert watched.alive() == []
    assert len(servers) == 2
    assert os.getpid() not in servers


def test_without_a_fork_server_each_worker_is_a_new_interpreter(
    backend: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where forking is unsafe, this program itself starts the worker processes, which end with the run."""
    monkeypatch.setattr(_worker_pool, "can_fork", lambda: False)
    job, dies, last = ProcessJob(bodies.whoami), ProcessJob(bodies.die, "exit"), ProcessJob(bodies.add, 1)
    run(backend, job, dies, last, jobs_window=1)
    assert job.result()[1] == os.getpid()
    assert "exit code 5" in str(dies.raised_exception())
    assert last.result() == 1
    assert watched.alive() == []


def test_a_preload_module_is_imported_once_by_the_server(backend: str, module: Any) -> None:
    """The server, not each worker, imports the modules of `multiprocessing.set_forkserver_preload`."""
    module("import os\nprocess = os.getpid()\nprint('written once')")
    job = ProcessJob(bodies.imported_by)
    run(backend, job)
    importer, server = job.result()
    assert importer == server != os.getpid()


def test_output_of_a_preload_module_is_written_once(
    backend: str, module: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Output of a preload module is written once: forked workers do not inherit it in their buffers."""
    module("print('hello', end='')")
    run(backend, *meeting(tmp_path / "meeting", 2), ProcessJob(bodies.read_and_print), processes=3)
    assert capfd.readouterr().out.count("hello") == 1


@pytest.mark.parametrize(
    "code",
    [
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "raise SystemExit(3)",
    ],
    ids=["with a thread", "exited"],
)
def test_a_server_that_cannot_fork_safely_is_not_used(backend: str, watched: Watched, module: Any, code: str) -> None:
    """A server with a thread is not used: a lock that the thread holds would be held forever in a forked worker."""
    module(code)
    jobs = [ProcessJob(bodies.whoami) for _ in range(2)]
    run(backend, *jobs)
    assert [job.result()[1] for job in jobs] == [os.getpid()] * 2
    assert watched.alive() == []


def test_a_preload_module_that_raises_does_not_end_the_server(backend: str, module: Any) -> None:
    """If a preload module raises, workers are forked from the server nevertheless."""
    module("1 / 0")
    job = ProcessJob(bodies.whoami)
    run(backend, job)
    assert job.result()[1] != os.getpid()


def test_a_fork_that_fails_fails_only_its_job(backend: str, module: Any, watched: Watched, tmp_path: Path) -> None:
    """If the server cannot fork a worker, only the job that needs this worker fails."""
    module(
        "import errno, os\nreal, calls = os.fork, 0\n\ndef fork():\n    global calls\n    calls += 1\n"
        "    if calls == 2:\n        raise OSError(errno.EAGAIN, 'no more')\n    return real()\n\nos.fork = fork\n"
    )
    first, second = ProcessJob(bodies.whoami), ProcessJob(bodies.whoami)
    run(backend, first, second, jobs_window=1)
    with pytest.raises(BlockingIOError, match="a worker process could not be forked"):
        first.result()
    assert second.result()[1] != os.getpid()
    assert watched.alive() == []


def test_the_main_module_is_imported_by_each_worker(tmp_path: Path) -> None:
    """Each worker imports the main module: if the server did, all would have the same random numbers."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom tests.jobs.process.process_bodies import meet\n"
        "from trioflow import ProcessJob, Scheduler\n"
        "TOKEN = os.urandom(8)\n\ndef token(path):\n    meet(path, 2)\n    return TOKEN\n\n"
        "if __name__ == '__main__':\n    jobs = [ProcessJob(token, sys.argv[1]) for _ in range(2)]\n"
        "    Scheduler(*jobs, processes=2).run(check=True)\n    print(len({TOKEN, *(job.result() for job in jobs)}))\n"
    )
    (tmp_path / "meeting").mkdir()
    found = subprocess.run(
        [sys.executable, program, tmp_path / "meeting"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.stderr) == ("3\n", "")


def test_a_worker_inherits_the_current_environment_and_directory_of_the_program(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new worker gets the current environment and directory of the program, not those of the fork server."""
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
        await ProcessJob(bodies.die, "exit").co_run()  # so that the next one has a new worker

    first = Job(place, 1)
    run(backend, first, Job(place, 2, required=first, run_if="settled"))
    run(backend, Job(place, 3))
    assert found == [(str(number), str(tmp_path / str(number))) for number in (1, 2, 3)]


def test_workers_of_jobs_that_time_out_while_the_server_starts_are_not_lost(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    """Workers whose jobs time out while the server starts serve other jobs, or end with the run."""
    early = [ProcessJob(bodies.add, 1, timeout=0.001) for _ in range(3)]
    late = meeting(tmp_path / "meeting", 2)
    for job in late:
        job.requires(*early, settled=True)
    run(backend, *early, *late, processes=3)
    assert [job.state for job in late] == [JobState.SUCCEEDED] * 2
    assert watched.alive() == []
    run(backend, *(ProcessJob(bodies.add, 1, timeout=0.001) for _ in range(3)), processes=3)
    assert watched.alive() == []


def test_workers_of_a_killed_server_continue_with_unknown_exit_codes(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    """Workers of a killed server continue, with unknown exit codes, and further workers are new interpreters."""

    async def kill_server() -> None:
        descriptor = os.pidfd_open(first.result()[1])
        os.kill(first.result()[1], signal.SIGKILL)
        await anyio.wait_readable(descriptor)
        os.close(descriptor)

    first = ProcessJob(bodies.whoami)
    killer = Job(kill_server, required=first)
    again = ProcessJob(bodies.whoami, required=killer)
    dies = ProcessJob(bodies.die, "fork", required=again)
    last = ProcessJob(bodies.whoami, required=dies)
    run(backend, first, killer, again, dies, last, critical_jobs=False)
    assert again.result()[0] == first.result()[0]
    assert "its exit code is unknown" in str(dies.raised_exception())
    assert last.result()[1] == os.getpid()
    assert watched.alive() == []


def test_runs_in_two_threads_have_a_server_each(backend: str, tmp_path: Path, watched: Watched) -> None:
    """Runs in two threads have a server each, and leave no process."""
    jobs = meeting(tmp_path / "meeting", 2)
    threads = [threading.Thread(target=lambda job: Scheduler(job).run(backend=backend), args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.result()[1] for job in jobs}) == 2
    assert watched.alive() == []


def test_ctrl_c_prints_no_tracebacks_of_server_and_workers(backend: str, tmp_path: Path, watched: Watched) -> None:
    """Server and workers print no tracebacks on Ctrl-C, which only the controlling program handles."""
    code = (
        "from tests.jobs.process.process_bodies import nap_forever\n"
        "from trioflow import ProcessJob, Scheduler\nimport sys\n"
        "scheduler = Scheduler(ProcessJob(nap_forever, sys.argv[2]))\n"
        "try:\n    scheduler.run(backend=sys.argv[1])\nexcept KeyboardInterrupt:\n    print(scheduler.stop_reason.name)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, backend, str(tmp_path / "started")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until_there(tmp_path / "started")
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (out, error) == (f"{StopReason.INTERRUPTED.name}\n", "")
    assert watched.alive() == []


@pytest.mark.parametrize("forks", [True, False])
def test_a_program_that_ignores_sigchld_may_have_process_jobs(backend: str, forks: bool) -> None:
    """Exit codes of forked workers are known even then, since their parent is the server, whose own code is not needed.

    The end of the run once raised a ChildProcessError.
    """
    code = (
        "import signal, sys\nfrom tests.jobs.process.process_bodies import die\n"
        "from trioflow import ProcessJob, Scheduler\nfrom trioflow.jobs.process import _worker_pool\n"
        f"_worker_pool.can_fork = lambda: {forks}\n"
        "job, fine = ProcessJob(die, 'exit'), ProcessJob(pow, 2, 3)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "Scheduler(job, fine).run(backend=sys.argv[1])\nprint(job.raised_exception())\nprint(fine.result())"
    )
    found = subprocess.run([sys.executable, "-c", code, backend], capture_output=True, text=True, check=False)
    died, fine = found.stdout.splitlines()
    ended = "exit code 5" if forks else "its exit code is unknown"
    assert died.startswith(f"\"die('exit')\": its process has died: {ended}")
    assert fine == "8"
    assert "Traceback" not in found.stderr


def test_a_process_job_in_a_removed_working_directory_says_so(backend: str, tmp_path: Path) -> None:
    """A program whose working directory was removed gets an error that says so, and what to do."""
    code = (
        "import os, sys\nfrom trioflow import ProcessJob, Scheduler\njob = ProcessJob(pow, 2, 3)\n"
        "os.rmdir(os.getcwd())\nScheduler(job).run(backend=sys.argv[1])\nprint(job.raised_exception())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, backend], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "could not be started: the working directory of this program has been removed: change to" in found.stdout


def test_server_and_worker_end_silently_if_the_program_reads_no_answers(tmp_path: Path) -> None:
    """Server and worker end silently if their connection is reset, for example after three Ctrl-C."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, (tmp_path / "errors").open("wb") as errors:
        server = subprocess.Popen([sys.executable, "-P", _worker_main.__file__, "server"], stdin=theirs, stderr=errors)
    control.send(pickle.dumps((sys.path, [], False)))
    workers = [socket.socketpair() for _ in range(2)]
    for _, end in workers:
        socket.send_fds(control, [b""], [end.fileno()])
        end.close()
    (ended, _), (busy, _) = workers
    number = ended.recv(_worker_main.NUMBER_FORMAT.size)
    ended.close()
    call = _worker_main.pack_request(pickle.dumps({})) + _worker_main.pack_request(pickle.dumps((abs, (-1,), {}, {})))
    busy.send(call)
    control.send(number)
    for there in (control, busy):  # both have something to read, which nobody reads
        while not select.select([there], [], [], 60)[0]:
            pass
        there.close()
    assert server.wait(60) == 0
    assert (tmp_path / "errors").read_text() == ""


def test_the_module_that_the_server_imports_exists() -> None:
    """The module that the server imports exists: a wrong name would go unnoticed, and make each worker slower."""
    assert importlib.util.find_spec(_fork_server.PROCESS_JOB_MODULE) is not None
