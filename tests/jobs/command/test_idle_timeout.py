"""Commands with an `idle_timeout`: what they write, wherever it goes, is a sign of life."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trioflow import CommandJob, JobTimeout, Retry, Scheduler
from trioflow.abc import fraction_done

from ...places import patiently
from .commands import PIPE

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
def test_output_of_a_command_is_a_sign_of_life(
    backend: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], unit: float
) -> None:
    """Output to any destination postpones the idle timeout, and a command that falls silent is ended."""
    capfd.readouterr()
    files = {name: tmp_path / "made" / name for name in ("path", "stderr")} | {"file": tmp_path / "opened"}
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
            says = tick(unit).replace("$n", "$n >&2") if where == "stderr" else tick(unit)
            jobs[where] = CommandJob(f"{says}; sleep 99", shell=True, idle_timeout=unit, **given)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", sys.__stdout__)
            Scheduler(*jobs.values()).run(backend=backend)
    for job in jobs.values():
        error = timeout_of(job)
        assert (error.missing, error.seconds) == ("output", unit)
        assert job.elapsed is not None
        assert job.elapsed > (4 * PAUSE + 1) * unit - 0.01
    pipe = jobs["pipe"].last_result
    written = {"pipe": pipe and pipe.stdout, "inherited": capfd.readouterr().out.encode()}
    written |= {where: path.read_bytes() for where, path in files.items()}
    assert written == dict.fromkeys(written, b"1\n2\n3\n4\n")


@patiently(0.4, 4, 30)
def test_a_command_that_writes_to_its_end_succeeds(backend: str, unit: float) -> None:
    """A command that writes to its end loses no output, and its leftovers may be silent beyond the idle timeout."""
    job = CommandJob(f"{tick(unit)}; (sleep {1.3 * unit}; echo left) &", shell=True, stdout=PIPE, idle_timeout=unit)
    assert Scheduler(job).run(backend=backend, check=True)
    assert job.result().stdout == b"1\n2\n3\n4\nleft\n"


def test_timeout_ends_a_command_that_never_stops_writing(backend: str) -> None:
    job = CommandJob(["yes"], stdout=subprocess.DEVNULL, idle_timeout=5, timeout=0.1)
    Scheduler(job).run(backend=backend)
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
def test_output_is_a_sign_of_life_of_the_enclosing_scheduler(backend: str, unit: float) -> None:
    writes = CommandJob(f"{tick(unit)}; sleep 99", shell=True, stdout=subprocess.DEVNULL)
    inner = Scheduler(writes, idle_timeout=unit)
    Scheduler(inner).run(backend=backend)
    assert timeout_of(inner).missing == "progress of its jobs"
    assert inner.elapsed is not None
    assert inner.elapsed > (4 * PAUSE + 1) * unit - 0.01
