"""What jobs, processes, tasks and pools of PyExPool say of themselves, in each state; hardly a process is started."""

import errno
import io
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import CommandResult
from trioflow.compat.pyexpool import ExecPool, Job, JobInfo, Task
from trioflow.compat.pyexpool._jobs import Process

USAGE: Any = SimpleNamespace(ru_utime=0, ru_stime=0, ru_maxrss=0)


def ended(code: int = 0) -> CommandResult:
    return CommandResult(code, 1.0, USAGE, b"out", b"err\xff")


def test_a_process_is_as_that_of_subprocess() -> None:
    """Signals reach it until it has ended, and its output is there from then on."""
    sent: list[int] = []
    process = Process(["a", "b"], 7, sent.append)
    job = Job("j")
    job.proc = process
    assert (process.args, process.pid, process.poll()) == (["a", "b"], 7, None)
    assert (job.pipedout, job.pipederr) == (None, None)
    process.terminate()
    process.kill()
    process.send_signal(signal.SIGHUP)
    assert sent == [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP]
    with pytest.raises(ValueError, match="999"):
        process.send_signal(999)
    with pytest.raises(subprocess.TimeoutExpired) as late:
        process.wait(0)
    assert (late.value.cmd, late.value.timeout) == (["a", "b"], 0)
    # Its result is known before its end is recorded.
    process._result = ended()
    process._files_by_stream = {"stdout": io.BytesIO(b"out")}
    assert (job.pipedout, job.pipederr) == (None, None)
    process._record_end(ended(-9), ["stdout", "stderr"])
    process.terminate()
    with pytest.raises(ValueError, match="999"):
        process.send_signal(999)
    assert len(sent) == 3
    assert (process.poll(), process.wait(0), process.wait()) == (-9, -9, -9)
    assert process.communicate() == (b"out", b"err\xff")
    assert (job.pipedout, job.pipederr) == ("out", "err\ufffd")
    assert repr(process) == "<Process: returncode: -9 args: ['a', 'b']>"
    assert repr(job) == "<Job 'j' has ended with -9>"
    piped: Any
    for piped, output in ((["stderr"], (None, b"err\xff")), ([], (None, None))):
        other = Process(["a"], None, sent.append)
        other._record_end(ended(3), piped)
        assert other.communicate() == output
    unknown = Process(["a"], None, sent.append)
    unknown._record_end(None, ["stdout"])
    assert (unknown.returncode, unknown.communicate()) == (0, (None, None))


def test_the_outcome_of_a_job_has_its_times_and_codes() -> None:
    task = Task("t")
    job: Any = Job("j", task=task)

    def facts(*arguments: float) -> list[Any]:
        info = JobInfo(job, *arguments)
        names = ("pid", "code", "tstart", "tstop", "duration", "task", "category")
        return [getattr(info, name) for name in names]

    assert facts() == [None, None, None, None, None, "t", None]
    job.tstart = 3.0
    assert facts() == [None, None, 3.0, None, None, "t", None]
    job.tstop, job.category = 5.5, "c"
    job.proc = SimpleNamespace(pid=7, returncode=0)
    assert facts() == [7, 0, 3.0, 5.5, 2.5, "t", "c"]
    assert facts(4.0) == [7, 0, 3.0, 4.0, 1.0, "t", "c"]
    assert JobInfo(Job("alone")).task is None
    assert repr(JobInfo(job)) == "<JobInfo 'j' code=0>"


def test_what_is_not_given_comes_from_the_task() -> None:
    outer = Task("o", params={"a": 1}, stdout="out", stderr="err")
    inner = Task("i", task=outer, stdout=None)
    job = Job("j", task=inner, params={})
    other = Job("k", task=inner, stderr="own")
    assert (inner.params, inner.stdout, inner.stderr) == ({"a": 1}, None, "err")
    assert (job.params, job.stdout, job.stderr) == ({}, None, "err")
    assert (other.params, other.stdout, other.stderr) == ({"a": 1}, None, "own")
    for ontimeout, rsrtonto, restarts in (
        (False, None, False), (True, None, True), (True, False, False), (False, True, True),
    ):  # fmt: skip
        made = Job("j", ontimeout=ontimeout, rsrtonto=rsrtonto)
        assert (made.rsrtonto, made.ontimeout) == (restarts, restarts)


def test_a_task_is_over_once_for_each_time_that_it_has_grown() -> None:
    said: list[str] = []
    note: Any = lambda name: lambda task: said.append(f"{name} {task.tstop is None}")  # noqa: E731
    task = Task("t", onstart=note("start"), ondone=note("done"), onfinish=note("end"))
    assert (task.tstart, said) == (None, [])
    first = Job("a", task=task)
    second = Task("b", task=task)
    assert said == ["start True"]
    task.finished(first, True)
    assert not task._close_if_over()
    task.finished(second, True)
    assert [task._close_if_over() for _ in range(2)] == [True, False]
    task._call_end_callbacks()
    assert said == ["start True", "done True", "end False"]
    third = Job("c", task=task)
    assert (task.numadded, task.numdone, task.numterm, task.tstop) == (3, 2, 0, None)
    task.finished(third, False)
    assert task._close_if_over()
    task._call_end_callbacks()
    assert said[3:] == ["end False"]
    assert repr(task) == "<Task 't' 2 done, 1 terminated of 3>"
    late = Task("l")
    late._has_timed_out = True
    assert not late._has_succeeded


def test_a_pool_is_cleared_whatever_it_has_done() -> None:
    pool = ExecPool(wksnum=3, name="p")
    assert repr(pool) == "<ExecPool p 3 workers, 0 done, 0 failed>"
    assert repr(ExecPool(2, wksnum=3)) == "<ExecPool 2 workers, 0 done, 0 failed>"
    assert not pool.join()
    task = Task("t", timeout=99)
    assert pool.execute(Job("a", task=task)) == 0
    assert pool.execute(Job("b"), concur=False) == 0
    assert pool.execute(Job("bad", args=["/no/such/program"]), **{"async": False}) == -1
    assert pool.join()
    assert (pool.jobsdone, [info.name for info in pool.failures]) == (2, ["bad"])
    assert pool.tasks == {task}
    # The limit of a task counts from its first job, also after a join.
    deadline = task._deadline
    assert deadline is not None
    time.sleep(0.001)
    assert pool.execute(Job("c", task=task)) == 0
    assert pool.join()
    assert (task._deadline, pool.jobsdone, task.numdone) == (deadline, 3, 2)
    pool.alive = False
    assert pool.execute(Job("late")) == errno.EINTR
    assert not pool.join()
    pool.clear()
    assert (pool.alive, pool.jobsdone, pool.failures, pool.tasks) == (
        True,
        0,
        [],
        set(),
    )
    assert pool.execute(Job("again")) == 0
    assert pool.join()
    assert pool.jobsdone == 1
    with pool:
        pass
    assert not pool.alive


@pytest.mark.parametrize(
    ("workers", "error"),
    [(0, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)],
)
def test_a_pool_has_a_worker_at_least(workers: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"workers={workers!r} of ExecPool: give"):
        ExecPool(workers)
    assert ExecPool(1)._workers == 1


def test_options_of_execute_are_refused_by_name() -> None:
    pool = ExecPool(1)
    with pytest.raises(TypeError, match=r"execute\(\) takes no 'asynch'"):
        pool.execute(Job("a"), asynch=True)
    job = Job("a")
    assert pool.execute(job) == 0
    with pytest.raises(ValueError, match="job 'a' was already executed"):
        pool.execute(job)
    assert pool.join()
