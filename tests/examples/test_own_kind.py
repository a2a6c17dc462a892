"""The example of a user's own kind of job: commands in a sandbox, on a par with the kinds of the package."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trioflow import CommandError, CommandJob, JobTimeout, Scheduler, Trace
from trioflow.view import listing, save
from ..jobs.posix.process_trees import command_line
from ..places import PATIENCE, patiently
from ..testing.kinds import check_kind
from .scripts import load_example


@pytest.fixture(scope="module")
def example() -> Any:
    return load_example("own_kind")


def test_a_job_among_the_words_of_a_sandbox_job_is_replaced_by_its_output(example: Any, backend: Any) -> None:
    scheduler = example.scenario(2)
    assert scheduler.run(backend=backend)
    *_, last = scheduler
    assert last.result().text.split() == ["101:", "101", "1001:", "7", "11", "13"]
    assert "<SandboxJob factor 101>" in listing(scheduler)


def test_sandbox_jobs_pass(example: Any, backend: Any) -> None:
    makers = [partial(example.SandboxJob, *words) for words in (["true"], ["sleep", 1000], ["false"])]
    check_kind(backend, *makers)


def test_a_command_in_the_sandbox_cannot_write_files(example: Any, backend: Any, tmp_path: Path) -> None:
    job = example.SandboxJob("touch", tmp_path / "new")
    Scheduler(job).run(backend=backend)
    with pytest.raises(CommandError, match=r"exit code 1: touch .*Read-only file system|(?s:exit code 1.*Read-only)"):
        job.result()
    assert not (tmp_path / "new").exists()


def gone_in_time(mark: str) -> bool:
    """Wait until no process has this command line; return whether that happened within `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while any(mark in command_line(path) for path in Path("/proc").glob("[0-9]*")):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@patiently(1, 30)
def test_a_timeout_leaves_no_process_of_the_sandbox(example: Any, backend: Any, unit: float) -> None:
    mark = f"sleep 100.{os.getpid()}"
    job = example.SandboxJob("sh", "-c", f"echo begun; {mark} & {mark}; true", timeout=unit)
    Scheduler(job).run(backend=backend)
    with pytest.raises(JobTimeout, match=f"its timeout of {unit} s"):
        job.result()
    assert job.last_result.stdout == b"begun\n"
    assert gone_in_time(mark)


def test_a_timeout_during_the_start_of_the_sandbox_leaves_no_process(example: Any, backend: Any) -> None:
    mark = f"sleep 99.{os.getpid()}"
    jobs = [example.SandboxJob(*mark.split(), timeout=number / 1000) for number in range(1, 31)]
    assert not Scheduler(*jobs, jobs_window=3).run(backend=backend)
    assert {type(job.raised_exception()) for job in jobs} == {JobTimeout}
    assert gone_in_time(mark)


@patiently(0.4, 4, 30)
def test_output_of_a_sandbox_job_resets_its_idle_timeout(example: Any, backend: Any, unit: float) -> None:
    tick = f"for n in $(seq 20); do echo $n; sleep {unit / 10}; done"
    steady = example.SandboxJob("sh", "-c", tick, idle_timeout=unit)
    silent = example.SandboxJob("sleep", 100, idle_timeout=unit)
    inner = Scheduler(example.SandboxJob("sh", "-c", tick, label="inside"), idle_timeout=unit, label="inner")
    Scheduler(steady, silent, inner).run(backend=backend)
    assert steady.is_succeeded()
    assert inner.is_succeeded()
    with pytest.raises(JobTimeout, match=f"no output for {unit} s"):
        silent.result()


def test_pictures_and_reports_show_the_sandbox_job(example: Any, backend: Any, tmp_path: Path) -> None:
    """A sandbox job has a shape of its own in pictures; the report has its command line and exit code."""
    trace = Trace()
    scheduler = Scheduler(example.SandboxJob("echo", "hello"), example.SandboxJob("true"), instruments=[trace])
    scheduler.add(CommandJob(["true"]))
    assert scheduler.run(backend=backend)
    assert "box3d" in scheduler.graph().source
    save(trace, tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "echo hello" in report
    assert "exit code 0" in report


def test_a_redacted_sandbox_job_shows_no_secrets(example: Any, backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With `redact=True`, neither the label nor the failure of a sandbox job shows its words."""
    job = example.SandboxJob("sh", "-c", "exit 3 # password", redact=True)
    Scheduler(job).run(backend=backend)
    assert job.label == "sandbox …"
    assert "password" not in f"{job.raised_exception()} {caplog.text}"


def test_the_error_explains_that_no_sandbox_can_be_made(example: Any, backend: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(example, "BOX", ["sh", "-c", "echo 'bwrap: No permissions to create new namespace'; exit 1"])
    job = example.SandboxJob("true")
    Scheduler(job).run(backend=backend)
    with pytest.raises(CommandError, match=r"no sandbox can be made here(?s:.*)No permissions"):
        job.result()
