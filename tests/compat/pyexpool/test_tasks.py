"""PyExPool's tasks: groups of jobs and of other tasks, counts, callbacks, and a time limit."""

import signal
import subprocess
import threading
from typing import Any

import pytest
from trioflow.compat.pyexpool import ExecPool, Job, Task
from ...places import patiently
from .pools import Notes, boom


def counts(task: Task) -> tuple[int, int, int]:
    return task.numadded, task.numdone, task.numterm


def test_a_task_is_done_when_its_jobs_are() -> None:
    """A task's callbacks follow those of the last job, and its counts and times are set."""
    notes, pool = Notes(), ExecPool(2)
    task = notes.task("t")
    assert (task.tstart, notes) == (None, [])
    for name in "abc":
        pool.execute(notes.job(name, task=task))
    assert pool.join() is True
    assert notes[0] == ("start", "t")
    assert notes[-2:] == [("done", "t"), ("finish", "t")]
    assert len(notes.of("t")) == 3
    assert counts(task) == (3, 3, 0)
    assert task.tstart is not None
    assert task.tstop is not None
    assert pool.tasks == {task}


def test_a_task_with_a_failed_job_is_not_done() -> None:
    notes, pool = Notes(), ExecPool(2)
    task = notes.task("t")
    for name, line in (("a", "exit 0"), ("b", "exit 1")):
        pool.execute(notes.job(name, line, task=task))
    assert pool.join() is True
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
    notes, pool = Notes(), ExecPool(3)
    outer = notes.task("outer")
    good, bad = notes.task("good", task=outer), notes.task("bad", task=outer)
    for task, line in ((good, "exit 0"), (good, "exit 0"), (bad, "exit 1"), (bad, "exit 1"), (outer, "exit 0")):
        pool.execute(notes.job("j", line, task=task))
    assert pool.join() is True
    assert [counts(task) for task in (good, bad, outer)] == [(2, 2, 0), (2, 0, 2), (3, 2, 1)]
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
def test_exception_of_a_task_callback_is_only_logged(what: str, caplog: pytest.LogCaptureFixture) -> None:
    pool = ExecPool(1)
    task = Task("t", **{what: boom})  # type: ignore[arg-type]
    pool.execute(Job("a", args=["true"], task=task))
    assert pool.join() is True
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
def test_timeout_of_a_task_terminates_its_jobs_and_no_other(caplog: pytest.LogCaptureFixture, unit: float) -> None:
    notes, pool = Notes(), ExecPool(3)
    expired = threading.Event()
    task = notes.task("t", timeout=unit)
    inner = notes.task("inner", task=task, onfinish=lambda task: expired.set())
    other = notes.job("other", f"sleep {3 * unit}")
    running = [notes.job("running", "sleep 1000", task=task), notes.job("nested", "sleep 1000", task=inner)]
    waiting = notes.job("waiting", "sleep 1000", task=task, onfinish=lambda job: pool.execute(late))
    late = notes.job("late", "sleep 1000", task=task)
    running[0].onfinish = lambda job: pool.execute(late)
    for job in (*running, other, waiting):
        pool.execute(job)
    assert pool.join() is True
    assert expired.is_set()
    assert [job.proc and job.proc.returncode for job in running] == [-signal.SIGTERM] * 2
    assert (waiting.tstart, waiting.proc, late.tstart) == (None, None, None)
    assert notes.of("waiting") == notes.of("late") == []
    assert notes.of("other") == ["start", "done", "finish"]
    assert notes.of("t") == ["start", "finish"]
    assert counts(task) == (4, 0, 4)
    assert f"task 't' did not end within its timeout of {unit} s" in caplog.text


@patiently(0.2, 2, 20)
def test_timeout_of_a_task_ends_with_its_last_job(unit: float) -> None:
    notes, pool = Notes(), ExecPool(2)
    task = notes.task("t", timeout=unit)
    pool.execute(notes.job("a", task=task))
    pool.execute(notes.job("b", f"sleep {1.1 * unit}"))
    assert pool.join() is True
    assert notes.of("t") == ["start", "done", "finish"]


def test_a_restarted_job_does_not_count_as_terminated() -> None:
    notes, pool = Notes(), ExecPool(1)
    task = notes.task("t")

    def start(job: Job) -> None:
        job.args = ["true"] if notes.of("j") else ["sleep", "1000"]

    pool.execute(Job("j", None, ["true"], 0.05, True, task, onstart=start, onfinish=notes.on("f")))
    assert pool.join() is True
    assert counts(task) == (1, 1, 0)
    assert notes.of("t") == ["start", "done", "finish"]
