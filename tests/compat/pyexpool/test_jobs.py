"""PyExPool's names: jobs, their callbacks and their output."""

import errno
import inspect
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
import trio
from trioflow.compat import pyexpool
from trioflow.compat.pyexpool import ExecPool, Job, Task, _batch, _pool
from trioflow.compat.pyexpool._callbacks import CallbackThread
from ...bodies import Flaw, in_threads, raising
from ...places import PATIENCE, patiently
from .pools import Notes, executed

boom = raising(OSError("broken"))
V1_TASK = ["name", "timeout", "onstart", "ondone", "params", "stdout", "stderr"]
V1_JOB = [
    "name",
    "workdir",
    "args",
    "timeout",
    "ontimeout",
    "task",
    "startdelay",
    *V1_TASK[2:],
]
V3_JOB = [
    "rsrtonto",
    "onfinish",
    "category",
    "size",
    "slowdown",
    "omitafn",
    "memkind",
    "pipedout",
    "pipederr",
]
RUN_JOB = ["tstart", "tstop", "proc"]


def test_positions_of_arguments_are_those_of_version_1() -> None:
    assert list(inspect.signature(Job).parameters)[: len(V1_JOB)] == V1_JOB
    assert list(inspect.signature(Task).parameters)[: len(V1_TASK)] == V1_TASK
    assert next(iter(inspect.signature(ExecPool).parameters)) == "workers"


def test_each_public_name_has_the_compat_module_and_a_docstring() -> None:
    for name in pyexpool.__all__:
        public = getattr(pyexpool, name)
        assert public.__module__ == "trioflow.compat.pyexpool"
        for attribute, value in {name: public, **vars(public)}.items():
            if not attribute.startswith("_") and (
                callable(value) or isinstance(value, property)
            ):
                assert inspect.getdoc(value), attribute


def test_a_job_has_its_arguments_as_attributes() -> None:
    """A job has the attributes of versions 1 and 3, and the two names for a restart are one setting."""
    job = Job(
        "j", "/", ["true"], 5, True, None, 0.5, boom, boom, {"a": 1}, "out", "err"
    )
    assert [getattr(job, name) for name in V1_JOB] == [
        "j", "/", ["true"], 5, True, None, 0.5, boom, boom, {"a": 1}, "out", "err",
    ]  # fmt: skip
    assert all(hasattr(job, name) for name in (*V3_JOB, *RUN_JOB))
    assert Job("k", rsrtonto=True).ontimeout is True
    job.ontimeout = False
    assert job.rsrtonto is False


def test_the_outputs_of_a_job_are_those_of_sys_by_default() -> None:
    """The outputs of a job are those of `sys`; only an explicit None inherits the descriptor."""
    job = Job("j")
    assert (job.stdout, job.stderr) == (sys.stdout, sys.stderr)
    assert Job("j", stdout=None).stdout is None


def test_a_job_runs_and_its_callbacks_are_called_in_order() -> None:
    """The callbacks of a job come in the order start, done, finish; afterwards its process and times can be read."""
    notes, pool = Notes(), ExecPool(2)
    job = notes.job("j")
    assert pool.execute(job) == 0
    assert pool.join() is True
    assert notes == [("start", "j"), ("done", "j"), ("finish", "j")]
    assert job.proc is not None
    assert job.proc.returncode == 0
    assert job.tstart is not None
    assert job.tstop is not None
    assert job.tstart <= job.tstop
    assert (pool.jobsdone, pool.failures) == (1, [])


def test_times_are_those_of_time_time() -> None:
    """The times of jobs and tasks come from `time.time`, as in version 1: programs show them as dates."""
    before, task, pool = time.time(), Task("t"), ExecPool(1)
    job = Job("j", args=["false"], task=task)
    pool.execute(job)
    pool.join()
    (info,) = pool.failures
    times = [before, task.tstart, job.tstart, job.tstop, task.tstop, time.time()]
    assert times == sorted(times)  # type: ignore[type-var]
    assert (info.tstart, info.tstop) == (job.tstart, job.tstop)


def test_a_job_that_fails_is_not_done() -> None:
    """The `ondone` of a failed job is not called, and the pool's failures have its code, pid and duration."""
    notes = Notes()
    job = notes.job("j", "exit 3")
    pool = executed(job, workers=2)
    assert notes.of("j") == ["start", "finish"]
    (info,) = pool.failures
    assert (info.name, info.code, info.pid) == ("j", 3, job.proc and job.proc.pid)
    assert info.duration is not None
    assert pool.jobsdone == 0


def test_callbacks_are_called_one_after_the_other_in_one_thread() -> None:
    """No two callbacks of a pool overlap, however many workers there are, and all run in one thread."""
    notes = Notes()
    inside: list[int] = []

    def alone(job: Job) -> None:
        inside.append(1)
        time.sleep(0.002)
        assert len(inside) == 1
        inside.pop()

    jobs = [
        Job(
            f"j{number}",
            args=["true"],
            onstart=alone,
            ondone=alone,
            onfinish=notes.on("f"),
        )
        for number in range(8)
    ]
    executed(*jobs, workers=4)
    assert len(notes) == 8
    assert not inside
    assert len(notes.threads) == 1


def test_a_process_gets_the_arguments_and_outputs_that_onstart_has_set() -> None:
    """`onstart` may change the arguments and outputs of a job, because the process starts only afterwards."""

    def change(job: Job) -> None:
        job.args, job.stdout = ["echo", job.params], subprocess.PIPE

    job = Job("j", args=["false"], onstart=change, params="changed")
    executed(job)
    assert (job.pipedout, job.pipederr) == ("changed\n", None)


def test_an_onstart_that_raises_keeps_the_process_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If `onstart` raises, `execute` returns -1, only `onfinish` is called, and the log names the job."""
    notes, pool = Notes(), ExecPool(1)
    job = notes.job("j", onstart=boom)
    assert pool.execute(job) == -1
    assert pool.execute(notes.job("k", onstart=boom), False) == -1
    assert pool.join() is True
    assert job.proc is None
    assert (notes.of("j"), notes.of("k")) == (["finish"], ["finish"])
    assert "onstart of job 'j' raised OSError('broken')" in caplog.text


@pytest.mark.parametrize("what", ["ondone", "onfinish"])
def test_exception_of_ondone_or_onfinish_is_only_logged(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = ExecPool(1)
    pool.execute(Job("j", args=["true"], **{what: boom}))  # type: ignore[arg-type]
    assert pool.join() is True
    assert pool.jobsdone == 1
    assert f"{what} of job 'j' raised" in caplog.text


def test_system_exit_in_a_callback_is_raised_by_join() -> None:
    pool = ExecPool(2)
    late = Job("late", args=["sleep", "1000"])
    pool.execute(late)
    pool.execute(Job("j", args=["true"], ondone=lambda job: sys.exit(3)))
    with pytest.raises(SystemExit, match="3"):
        pool.join()
    assert late.proc is not None
    assert late.proc.returncode == -signal.SIGTERM


def test_a_job_without_arguments_only_calls_its_callbacks() -> None:
    for args in [None, (), []]:
        notes, pool = Notes(), ExecPool(1)
        job = Job("j", args=args, **notes.callbacks())
        assert pool.execute(job) == 0
        assert pool.join() is True
        assert notes.of("j") == ["start", "done", "finish"]
        assert job.proc is None
        assert pool.jobsdone == 1


def test_a_nul_in_the_arguments_fails_the_job(caplog: pytest.LogCaptureFixture) -> None:
    """A job fails if its arguments contain a NUL; a string in place of a list is a program without arguments."""
    notes, pool = Notes(), ExecPool(1)
    assert pool.execute(Job("j", args=["echo", "a\0b"], **notes.callbacks())) == -1
    assert pool.execute(Job("k", args="true", **notes.callbacks())) == 0
    assert pool.join() is True
    assert (notes.of("j"), notes.of("k")) == (
        ["start", "finish"],
        ["start", "done", "finish"],
    )
    assert "job 'j' has failed: 'j': argument 1 contains a NUL" in caplog.text


def test_a_missing_program_fails_the_job(caplog: pytest.LogCaptureFixture) -> None:
    """A job whose program is missing fails; PyExPool itself crashed in this case, and so did its caller."""
    notes, pool = Notes(), ExecPool(1)
    job = Job("j", args=["no-such-program"], **notes.callbacks())
    assert pool.execute(job) == -1
    assert pool.join() is True
    assert (notes.of("j"), job.proc) == (["start", "finish"], None)
    assert [info.code for info in pool.failures] == [None]
    assert "program 'no-such-program' not found" in caplog.text


# ---- output
def test_ondone_can_read_more_output_than_a_pipe_holds() -> None:
    """`ondone` can read 300 KB of output; PyExPool itself waited in vain for a process that had filled its pipe."""
    read: list[bytes] = []

    def done(job: Job) -> None:
        assert job.proc is not None
        assert job.proc.stdout is not None
        assert job.proc.stderr is not None
        read.extend([job.proc.stdout.read(), job.proc.stderr.read()])

    line = "head -c 300000 /dev/zero; echo oh >&2"
    job = Job(
        "j",
        args=["sh", "-c", line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        ondone=done,
    )
    executed(job)
    assert read == [b"\0" * 300000, b"oh\n"]
    assert job.pipederr == "oh\n"


def test_both_outputs_can_go_to_one_pipe() -> None:
    """If both outputs go to one pipe, `communicate()` returns them in the order in which they were written."""
    job = Job(
        "j",
        args=["sh", "-c", "echo one; echo two >&2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    executed(job)
    assert job.proc is not None
    assert job.proc.communicate() == (b"one\ntwo\n", None)


def test_output_is_appended_to_the_named_file(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    executed(
        *(
            Job(word, "/", ["sh", "-c", f"echo {word}; pwd"], stdout=str(out))
            for word in ("one", "two")
        )
    )
    assert out.read_text() == "one\n/\ntwo\n/\n"


def test_output_goes_to_sys_stdout_and_stderr_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    executed(Job("j", args=["sh", "-c", "echo one; echo two >&2"]))
    assert capsys.readouterr() == ("one\n", "two\n")


# ---- time limits
def test_a_timeout_terminates_the_process_group_of_the_job() -> None:
    notes = Notes()
    job = notes.job("j", "sleep 1000 & sleep 1000", timeout=0.1)
    pool = executed(job)
    assert notes.of("j") == ["start", "finish"]
    assert job.proc is not None
    assert job.proc.returncode == -signal.SIGTERM
    assert [info.code for info in pool.failures] == [-signal.SIGTERM]


@pytest.mark.parametrize("option", ["ontimeout", "rsrtonto"])
def test_a_job_is_restarted_after_its_timeout(option: str) -> None:
    """For a restarted job, `onstart` and `onfinish` are called at each attempt, and `ondone` after the one in time. It
    has the times of this attempt alone."""
    notes = Notes()

    def start(job: Job) -> None:
        assert job.tstart is not None
        assert job.tstop is None
        notes.append(("start", job.name))
        if len(notes.of("j")) > 3:
            job.args = ["true"]

    job = Job(
        "j",
        args=["sleep", "1000"],
        timeout=0.05,
        onstart=start,
        ondone=notes.on("done"),
        onfinish=notes.on("f"),
    )
    setattr(job, option, True)
    pool = executed(job)
    *late, begun, done, finish = notes.of("j")
    assert late in (
        ["start", "f"] * number for number in range(2, 100)
    )  # on a busy machine `true` may be late too
    assert [begun, done, finish] == ["start", "done", "f"]
    assert (pool.jobsdone, pool.failures) == (1, [])


# ---- execute
def test_execute_returns_the_exit_code_of_a_job_that_it_waits_for() -> None:
    """With `concur=False` in any spelling, `execute` waits and returns the exit code; a signal gives a negative one."""
    pool = ExecPool(1)
    assert pool.execute(Job("j", args=["sh", "-c", "exit 3"]), False) == 3
    assert pool.execute(Job("k", args=["sh", "-c", "exit 3"]), concur=False) == 3
    assert pool.execute(Job("l", args=["sh", "-c", "exit 3"]), **{"async": False}) == 3
    assert (
        pool.execute(Job("m", args=["sleep", "1000"], timeout=0.05), False)
        == -signal.SIGTERM
    )
    assert pool.join() is True


def test_a_job_that_execute_waits_for_starts_at_once_in_a_busy_pool() -> None:
    pool = ExecPool(1)
    pool.execute(Job("long", args=["sleep", "1000"]))
    pool.execute(Job("next", args=["sleep", "1000"]))
    assert pool.execute(Job("now", args=["true"]), False) == 0
    pool.clear()


def test_execute_waits_for_the_start_as_long_as_a_worker_is_free() -> None:
    with ExecPool(2) as pool:
        for number, code in enumerate((0, 3, 0), 1):
            pool.execute(Job("j", args=["sh", "-c", f"exit {code}"]))
            while pool.jobsdone + len(pool.failures) < number:
                time.sleep(0.001)
        assert pool.execute(Job("none", args=["no/such/program"])) == -1
        assert pool.join() is True


def test_a_started_job_has_its_process_when_execute_returns() -> None:
    """After `execute`, the `proc` of a started job can be polled, waited for and killed; a queued job has none."""
    pool = ExecPool(2)
    job, other, queued = (
        Job(name, args=["sleep", "1000"]) for name in ("j", "k", "queued")
    )
    for each in (job, other, queued):
        assert pool.execute(each) == 0
    assert job.proc is not None
    assert (job.proc.poll(), queued.proc) == (None, None)
    with pytest.raises(subprocess.TimeoutExpired):
        job.proc.wait(0.01)
    job.proc.kill()
    assert job.proc.wait(PATIENCE) == -signal.SIGKILL
    job.proc.terminate()  # it has gone
    pool.clear()


def test_a_queued_job_starts_as_soon_as_a_worker_is_free() -> None:
    started = threading.Event()
    pool = ExecPool(1)
    pool.execute(Job("j", args=["true"]))
    pool.execute(Job("k", args=["true"], onstart=lambda job: started.set()))
    assert started.wait(PATIENCE)
    pool.join()


def test_no_more_jobs_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    """With three workers, three of nine jobs run at once, and never more; each waits until three have started."""
    running, most = set[str](), list[int]()
    until_three = (
        'touch "$0/$1"; while [ "$(ls "$0" | wc -l)" -lt 3 ]; do sleep 0.01; done'
    )

    def start(job: Job) -> None:
        running.add(job.name)
        most.append(len(running))

    pool = ExecPool(wksnum=3)
    for number in range(9):
        arguments = ["sh", "-c", until_three, str(tmp_path), str(number)]
        job = Job(
            f"j{number}",
            args=arguments,
            onstart=start,
            onfinish=lambda job: running.discard(job.name),
        )
        pool.execute(job)
    assert pool.join() is True
    assert max(most) == 3


def test_startdelay_delays_execute_and_the_next_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(
        _pool, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    )
    pool = ExecPool(3)
    first, second = (
        Job("first", args=["true"], startdelay=1000),
        Job("second", args=["true"]),
    )
    pool.execute(first)
    while not pool.jobsdone:
        time.sleep(0.001)
    post, posted = _batch.Batch.post, threading.Event()
    monkeypatch.setattr(
        _batch.Batch, "post", lambda *words: (post(*words), posted.set())[0]
    )
    thread = threading.Thread(target=pool.execute, args=(second,))
    thread.start()
    assert posted.wait(PATIENCE)
    assert pool.join(0.2) is False
    thread.join()
    assert slept == [1000]
    assert (first.proc and first.proc.returncode, second.tstart, second.tstop) == (
        0,
        None,
        None,
    )


def test_startdelay_of_a_queued_job_delays_the_next_one(tmp_path: Path) -> None:
    pool, go = ExecPool(1), tmp_path / "go"
    first = Job("a", args=["sh", "-c", f"until test -e {go}; do sleep 0.01; done"])
    jobs = [first, Job("b", args=["true"], startdelay=1000), Job("c", args=["true"])]
    for job in jobs:
        pool.execute(job)
    go.touch()
    while jobs[1].tstart is None:
        time.sleep(0.001)
    assert pool.join(0.2) is False
    assert [job.tstart is not None for job in jobs] == [True, True, False]


@pytest.mark.parametrize("what", ["onstart", "ondone", "onfinish"])
def test_a_callback_may_execute_more_jobs(what: str) -> None:
    notes, pool = Notes(), ExecPool(1)

    def more(job: Job) -> None:
        pool.execute(notes.job("second"))
        notes.append(("code", str(pool.execute(notes.job("now", "exit 5"), False))))

    pool.execute(Job("first", args=["true"], **{what: more}))  # type: ignore[arg-type]
    assert pool.join() is True
    assert notes.of("5") == ["code"]
    assert notes.of("now") == ["start", "finish"]
    assert notes.of("second") == ["start", "done", "finish"]


def test_a_long_chain_of_jobs_executed_by_callbacks_needs_no_recursion() -> None:
    done: list[int] = []
    pool = ExecPool(2)

    def execute(number: int) -> None:
        pool.execute(Job(f"j{number}", args=None, ondone=lambda job: after(number)))

    def after(number: int) -> None:
        done.append(number)
        if number < 200:
            execute(number + 1)

    execute(0)
    assert pool.join() is True
    assert done == list(range(201))


def test_threads_may_share_a_pool() -> None:
    pool = ExecPool(3)

    def execute() -> None:
        for number in range(5):
            pool.execute(Job(f"j{number}", args=["true"]))
            pool.join()

    in_threads(execute, 3)
    pool.join()
    assert pool.jobsdone == 15


def test_a_job_executed_while_join_ends_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    drain = CallbackThread.drain

    async def slowly(callbacks: CallbackThread) -> None:
        if not threads:
            threads.append(threading.Thread(target=pool.execute, args=(late,)))
            threads[0].start()
            await trio.sleep(0.05)
        await drain(callbacks)

    monkeypatch.setattr(CallbackThread, "drain", slowly)
    pool, late = ExecPool(1), Job("late", args=["true"])
    pool.execute(Job("j", args=["true"]))
    assert pool.join() is True
    threads[0].join()
    assert pool.join() is True
    assert pool.jobsdone == 2


def test_an_exception_of_a_handler_ends_the_job_that_execute_waits_for() -> None:
    old = signal.signal(signal.SIGUSR1, raising(Flaw()))
    try:
        notes, pool = Notes(), ExecPool(1)
        job = notes.job("j", "kill -USR1 $PPID; sleep 1000")
        with pytest.raises(Flaw):
            pool.execute(job, False)
        assert pool.join() is True
        assert (notes.of("j"), job.proc and job.proc.returncode) == (
            ["start", "finish"],
            -signal.SIGTERM,
        )
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_an_internal_error_of_the_pool_is_raised_by_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`join` raises an internal error of the pool; otherwise it would wait forever."""
    monkeypatch.setattr(_batch, "JobInfo", lambda job: 1 / 0)
    pool = ExecPool(1)
    pool.execute(Job("j", args=["false"]))
    with pytest.raises(ZeroDivisionError):
        pool.join()


def test_reprs_show_the_states_of_jobs_tasks_and_pools() -> None:
    pool = ExecPool(2, name="p")
    job, bad, stub = (
        Job("j", args=["sleep", "1000"]),
        Job("k", args=["false"]),
        Job("l", args=None, task=Task("t")),
    )
    assert repr(job) == "<Job 'j' has not started>"
    pool.execute(job)
    assert repr(job) == "<Job 'j' runs>"
    pool.execute(bad, False)
    pool.execute(stub, False)
    assert [repr(each) for each in (bad, stub, stub.task)] == [
        "<Job 'k' has ended with 1>", "<Job 'l' has ended>", "<Task 't' 1 done, 0 terminated of 1>",
    ]  # fmt: skip
    assert repr(bad.proc) == "<Process: returncode: 1 args: ('false',)>"
    assert repr(pool.failures) == "[<JobInfo 'k' code=1>]"
    assert repr(pool) == "<ExecPool p 2 workers, 1 done, 1 failed>"
    assert repr(ExecPool(1)) == "<ExecPool 1 workers, 0 done, 0 failed>"
    pool.clear()


# ---- a program that ignores SIGCHLD
@pytest.fixture
def no_sigchld() -> Any:
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, old)


def test_exit_codes_are_0_if_sigchld_is_ignored(no_sigchld: None) -> None:
    notes = Notes()
    jobs = [
        notes.job("j", "exit 3"),
        notes.job("slow", "sleep 0.05; exit 3"),
        notes.job("late", "sleep 1000", timeout=0.2),
    ]
    executed(*jobs, workers=2)
    assert [job.proc and job.proc.returncode for job in jobs] == [0, 0, 0]
    assert notes.of("slow") == ["start", "done", "finish"]
    assert notes.of("late") == ["start", "finish"]


# ---- what is rejected


INVALID = [
    (lambda: Job(5), TypeError, "name must be a string"),  # type: ignore[arg-type]
    (lambda: Job(""), ValueError, "name is empty"),
    (lambda: Job("j", timeout=-1), ValueError, "timeout=-1 of job 'j'"),
    (lambda: Job("j", timeout="5"), TypeError, "timeout='5' of job 'j'"),  # type: ignore[arg-type]
    (lambda: Job("j", onstart=5), TypeError, "onstart=5 of job 'j'"),  # type: ignore[arg-type]
    (lambda: Job("j", task="t"), TypeError, "task='t' of job 'j'"),  # type: ignore[arg-type]
    (lambda: Job("j", memlim=1), ValueError, "memory_limit to a trioflow.CommandJob"),
    (lambda: Job("j", poutlog="x"), ValueError, "poutlog='x' of job 'j'"),
    (lambda: Task("t", timeout=-1), ValueError, "timeout=-1 of task 't'"),
    (lambda: ExecPool(0), ValueError, "workers=0"),
    (lambda: ExecPool(1.5), TypeError, "workers=1.5"),  # type: ignore[arg-type]
    (lambda: ExecPool(2, 1), ValueError, "afnmask=1 of ExecPool is not supported"),
    (lambda: ExecPool(2, memlimit=1, name="p"), ValueError, "memlimit=1 of pool 'p'"),
    (lambda: ExecPool(2, memlimit=1), ValueError, r"pool=Pool\(memory=.*needs="),
    (lambda: ExecPool(2).execute("ls"), TypeError, "give a Job"),  # type: ignore[arg-type]
    (lambda: ExecPool(2).execute(Job("j"), awync=True), TypeError, "no 'awync'"),
    (lambda: ExecPool(2).join(-1), ValueError, "timeout=-1 of join"),
]


def test_error_for_an_invalid_argument_names_the_argument() -> None:
    for make, error, words in INVALID:
        with pytest.raises(error, match=words):
            make()


def test_executing_a_job_twice_raises() -> None:
    pool = ExecPool(1)
    job = Job("j", args=["true"])
    pool.execute(job)
    with pytest.raises(ValueError, match="'j' was already executed"):
        pool.execute(job)
    pool.join()


def test_join_in_a_callback_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    pool = ExecPool(1)
    pool.execute(Job("j", args=["true"], ondone=lambda job: pool.join()))
    assert pool.join() is True
    assert "join() in a callback" in caplog.text


def test_a_pool_that_is_not_alive_rejects_jobs() -> None:
    """If a pool is not alive, `execute` returns EINTR and `join` False, as in version 1."""
    pool = ExecPool(1)
    pool.alive = False
    assert pool.execute(Job("j", args=["true"])) == errno.EINTR
    assert pool.join() is False


def test_each_failure_has_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each failed job has one line in the log; the engine's own lines, which name other methods, are suppressed."""
    caplog.set_level(logging.WARNING)
    executed(
        Job("j", args=["sh", "-c", "exit 3"]),
        Job("k", args=["sleep", "1000"], timeout=0.05),
        workers=2,
    )
    assert "job 'j' has failed: exit code 3: sh -c 'exit 3'" in caplog.text
    assert "job 'k' did not end within its timeout of 0.05 s" in caplog.text
    assert len(caplog.records) == 2


def test_useless_arguments_are_reported_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When arguments without effect were ignored silently, a user's jobs of a failed category went on."""
    monkeypatch.setattr("trioflow.compat.pyexpool._jobs._warned_options", set())
    jobs = [Job("a", category="c", size=3), Job("b", category="c", size=4), Job("c")]
    assert [(job.category, job.size) for job in jobs] == [("c", 3), ("c", 4), (None, 0)]
    assert [record.getMessage().partition(" has no effect")[0] for record in caplog.records] == [
        "category='c' of job 'a'", "size=3 of job 'a'"
    ]  # fmt: skip


# --- pyExPool's tasks: groups of jobs and of other tasks, counts, callbacks, and a time limit
def counts(task: Task) -> tuple[int, int, int]:
    return task.numadded, task.numdone, task.numterm


def test_a_task_is_done_when_its_jobs_are() -> None:
    """A task's callbacks follow those of the last job, and its counts and times are set."""
    notes = Notes()
    task = notes.task("t")
    assert (task.tstart, notes) == (None, [])
    pool = executed(*(notes.job(name, task=task) for name in "abc"), workers=2)
    assert notes[0] == ("start", "t")
    assert notes[-2:] == [("done", "t"), ("finish", "t")]
    assert len(notes.of("t")) == 3
    assert counts(task) == (3, 3, 0)
    assert task.tstart is not None
    assert task.tstop is not None
    assert pool.tasks == {task}


def test_a_task_with_a_failed_job_is_not_done() -> None:
    notes = Notes()
    task = notes.task("t")
    pool = executed(
        notes.job("a", task=task), notes.job("b", "exit 1", task=task), workers=2
    )
    assert notes.of("t") == ["start", "finish"]
    assert counts(task) == (2, 1, 1)
    assert [info.task for info in pool.failures] == ["t"]


def test_a_task_is_started_by_its_first_job_or_subtask() -> None:
    notes = Notes()
    outer = notes.task("outer")
    inner = notes.task("inner", task=outer)
    assert notes == [("start", "outer")]
    Job("a", task=inner)
    Job("b", task=inner)
    assert notes == [("start", "outer"), ("start", "inner")]
    assert (counts(outer), counts(inner)) == ((1, 0, 0), (2, 0, 0))


def test_a_task_counts_only_its_direct_children() -> None:
    """In the counts of a task, a failed subtask is one failed child, however many of its jobs have failed."""
    notes = Notes()
    outer = notes.task("outer")
    good, bad = notes.task("good", task=outer), notes.task("bad", task=outer)
    lines = (
        (good, "exit 0"),
        (good, "exit 0"),
        (bad, "exit 1"),
        (bad, "exit 1"),
        (outer, "exit 0"),
    )
    executed(*(notes.job("j", line, task=task) for task, line in lines), workers=3)
    assert [counts(task) for task in (good, bad, outer)] == [
        (2, 2, 0),
        (2, 0, 2),
        (3, 2, 1),
    ]
    assert notes.of("good") == ["start", "done", "finish"]
    assert notes.of("bad") == notes.of("outer") == ["start", "finish"]
    assert notes[-1] == ("finish", "outer")


def test_a_task_does_not_end_before_the_program_calls_join() -> None:
    """A task ends only after `join` is called; otherwise a job that ends before the next is created would end it."""
    notes, pool = Notes(), ExecPool(2)
    task = notes.task("t")
    for name in "abc":
        assert pool.execute(notes.job(name, task=task), False) == 0
    assert notes.of("t") == ["start"]
    assert pool.join() is True
    assert notes.of("t") == ["start", "done", "finish"]


def test_callbacks_of_a_task_may_execute_more_jobs() -> None:
    notes, pool = Notes(), ExecPool(1)
    task = notes.task("t", ondone=lambda task: pool.execute(notes.job("after")))
    pool.execute(notes.job("a", task=task))
    assert pool.join() is True
    assert notes.of("after") == ["start", "done", "finish"]


@pytest.mark.parametrize("what", ["onstart", "ondone", "onfinish"])
def test_exception_of_a_task_callback_is_only_logged(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = Task("t", **{what: boom})  # type: ignore[arg-type]
    executed(Job("a", args=["true"], task=task))
    assert counts(task) == (1, 1, 0)
    assert f"{what} of task 't' raised OSError('broken')" in caplog.text


def test_jobs_inherit_output_and_params(tmp_path: Any) -> None:
    outer = Task("outer", params=5, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    inner = Task("inner", task=outer)
    job = Job("j", task=inner, args=["true"])
    own = Job("k", task=inner, args=["true"], params=6, stdout=None, stderr=None)
    assert (job.stdout, job.stderr) == (subprocess.PIPE, subprocess.STDOUT)
    assert (own.stdout, own.stderr, own.params) == (None, None, 6)
    assert Job("l", task=outer).params == 5


@patiently(0.2, 2, 20)
def test_timeout_of_a_task_terminates_its_jobs_and_no_other(
    caplog: pytest.LogCaptureFixture, unit: float
) -> None:
    notes, pool = Notes(), ExecPool(3)
    expired = threading.Event()
    task = notes.task("t", timeout=unit)
    inner = notes.task("inner", task=task, onfinish=lambda task: expired.set())
    other = notes.job("other", f"sleep {3 * unit}")
    running = [
        notes.job("running", "sleep 1000", task=task),
        notes.job("nested", "sleep 1000", task=inner),
    ]
    waiting = notes.job(
        "waiting", "sleep 1000", task=task, onfinish=lambda job: pool.execute(late)
    )
    late = notes.job("late", "sleep 1000", task=task)
    running[0].onfinish = lambda job: pool.execute(late)
    for job in (*running, other, waiting):
        pool.execute(job)
    assert pool.join() is True
    assert expired.is_set()
    assert [job.proc and job.proc.returncode for job in running] == [
        -signal.SIGTERM
    ] * 2
    assert (waiting.tstart, waiting.proc, late.tstart) == (None, None, None)
    assert notes.of("waiting") == notes.of("late") == []
    assert notes.of("other") == ["start", "done", "finish"]
    assert notes.of("t") == ["start", "finish"]
    assert counts(task) == (4, 0, 4)
    assert f"task 't' did not end within its timeout of {unit} s" in caplog.text


@patiently(0.2, 2, 20)
def test_timeout_of_a_task_ends_with_its_last_job(unit: float) -> None:
    notes = Notes()
    task = notes.task("t", timeout=unit)
    executed(
        notes.job("a", task=task), notes.job("b", f"sleep {1.1 * unit}"), workers=2
    )
    assert notes.of("t") == ["start", "done", "finish"]


def test_a_restarted_job_does_not_count_as_terminated() -> None:
    notes = Notes()
    task = notes.task("t")

    def start(job: Job) -> None:
        job.args = ["true"] if notes.of("j") else ["sleep", "1000"]

    executed(
        Job(
            "j", None, ["true"], 0.05, True, task, onstart=start, onfinish=notes.on("f")
        )
    )
    assert counts(task) == (1, 1, 0)
    assert notes.of("t") == ["start", "done", "finish"]


def test_of_two_callbacks_that_end_the_program_the_first_counts() -> None:
    pool = ExecPool(1)
    pool.execute(
        Job("a", ondone=raising(SystemExit(3)), onfinish=raising(SystemExit(4)))
    )
    with pytest.raises(SystemExit, match="3"):
        pool.join()
