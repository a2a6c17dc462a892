"""A job that calls `os.fork()`: the child ends where the body of the job ends, and touches nothing of its parent's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import child, fork_server

__all__ = ("fork_server",)  # a fixture

SCRIPT = """
import asyncio, json, os, signal, sys
import anyio
from trioflow import Job, Journal, Scheduler, ThreadJob
from trioflow.abc import Instrument

sys.stderr = open("errors", "w")

class Seen(Instrument):
    def _note(self, scheduler, job):
        with open("seen", "a") as file:
            file.write(f"{job.label} {os.getpid()}\\n")
    job_started = job_finished = _note

def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def in_thread():
    if pid := os.fork():
        return status(pid)
    raise LookupError("in a thread")

async def raises():
    if pid := os.fork():
        return status(pid)
    raise LookupError("of the child")

async def returns():
    if pid := os.fork():
        return status(pid)

async def exits():
    if pid := os.fork():
        return status(pid)
    sys.exit(3)

async def complains():
    if pid := os.fork():
        return status(pid)
    sys.exit("the reason")

async def awaits():
    if pid := os.fork():
        return status(pid)
    await anyio.lowlevel.checkpoint()

async def is_ended():
    if pid := os.fork():
        return status(pid)
    os.kill(os.getpid(), signal.SIGTERM)

async def runs_another():
    if pid := os.fork():
        return status(pid)
    os._exit(0 if BACKEND == "trio" or asyncio.run(Scheduler(Job(anyio.sleep, 0)).co_run()) else 1)

async def other():
    await anyio.sleep(0)

jobs = [Job(body, label=body.__name__) for body in (raises, returns, exits, complains, awaits, is_ended, runs_another)]
jobs += [
    Job(raises, label="retried", retry=1, timeout=50),
    Job(raises, label="restarted", on_timeout="restart", timeout=50),
    ThreadJob(in_thread, label="thread"),
    Scheduler(Job(raises, label="inner"), Job(other, label="other"), label="nested"),
]
ready = [Job(other, label=f"other {number}") for number in range(3)]
s = Scheduler(*ready, *jobs)
done = s.run(backend=BACKEND, journal=Journal("journal"), handle_signals=True, instruments=[Seen()])
results = {job.label: job.result() for job in jobs if job.label != "nested"}
print(json.dumps({"pid": os.getpid(), "result": results, "done": done}), flush=True)
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_child_ends_where_the_body_ends(backend: str, tmp_path: Path) -> None:
    """With 0, the code of `sys.exit()`, or 1 after an exception, which it prints; the run of its parent goes on."""
    (line,) = child(f"import os; os.chdir({str(tmp_path)!r}); BACKEND = {backend!r}\n{SCRIPT}")
    told = json.loads(line)
    assert told["result"] == {
        "raises": 1,
        "returns": 0,
        "exits": 3,
        "complains": 1,
        "awaits": 1,
        "is_ended": -15,
        "runs_another": 0,
        "retried": 1,
        "restarted": 1,
        "thread": 1,
    }
    assert told["done"] is True
    seen = (tmp_path / "seen").read_text(encoding="utf-8").splitlines()
    assert {line.rsplit(" ", 1)[1] for line in seen} == {str(told["pid"])}
    assert len(seen) == 2 * len(set(seen))
    errors = (tmp_path / "errors").read_text(encoding="utf-8")
    assert errors.count("LookupError: of the child") == 4
    assert errors.count("LookupError: in a thread") == 1
    assert errors.count("which a job has forked") == 6
    assert errors.count("'awaits' awaits something in a process that it has forked") == 1
    assert "the reason" in errors
