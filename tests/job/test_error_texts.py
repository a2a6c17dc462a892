"""The texts of exceptions: what a job or a run raises is facts, and advice for developers is a note."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import trioflow
from trioflow import Job, JobCancelled, JobSkipped, JobTimeout, Scheduler, SshError, SshNode, Throttled
from trioflow.jobs.ssh._transport import OpenSsh
from ..bodies import add, fail, later, nap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..conftest import Virtual

OF_THE_PROGRAM = {"CycleError", "JournalError", "MissingRequirement", "TrioflowError"}
"""What is wrong with a program or a file before its jobs run: the message says what to write."""
ADVICE = re.compile(r"\b(give|write|enlarge|reduce|leave out|put it|require it|ask for|await its|pass|call|choose)\b")
COMMAND_ADVICE = re.compile(r"\b(run|check|try|verify|remove|must|pass|if)\b")
SSH_SAYS = {
    "Permission denied (publickey).": True,
    "Host key verification failed.": True,
    "Offending key in /known:3\nhost key for node has changed and you have requested strict checking.": True,
    "Bad owner or permissions on /config": False,
    "ssh: connect to host node port 22: Connection refused": False,
    "Stdio forwarding request failed": False,
}
"""Messages of ssh, and whether there is advice."""


def jobs_without_result() -> Iterator[tuple[type[BaseException], Any]]:
    bad, skipped, cancelled = Job(fail), Job(nap, run_if="failed"), Job(nap, 9, label="long")
    yield trioflow.RequirementFailed, Job(add, bad, 1)
    yield trioflow.RequirementFailed, Job(nap, required=bad)
    yield JobTimeout, Job(nap, 9, timeout=1)
    yield JobTimeout, Job(nap, 9, idle_timeout=1, on_timeout="fail")
    yield JobTimeout, Scheduler(Job(nap, 9), timeout=1, label="group")
    yield trioflow.BudgetSpent, Job(nap, needs={"usd": 2})
    yield JobSkipped, skipped
    yield JobCancelled, cancelled
    yield trioflow.JobNotDone, Job(add, 1, 2, keep_result=False, label="dropped")


def test_the_text_of_what_a_job_raises_has_no_advice(virtual: Virtual) -> None:
    """A server once sent its client "give it more time with timeout=": such advice is a note, which tracebacks show."""
    wanted = [*jobs_without_result()]
    jobs = [job for _, job in wanted]
    spender = Job(nap, needs={"usd": 2}, label="spender")
    canceller = Job(later, 0.5, lambda: jobs[-2].cancel())
    user = Job(add, jobs[-1], 1)
    for job in jobs:
        if isinstance(job, Job) and job.needs:
            job.requires(spender)
    assert not virtual(Scheduler(spender, *jobs, canceller, user, pool=trioflow.Pool(usd=trioflow.Budget(3))).co_run)
    for kind, job in wanted:
        with pytest.raises(kind) as caught:
            job.result()
        assert not ADVICE.search(str(caught.value)), caught.value
        has_advice = kind not in (JobSkipped, JobCancelled)
        assert bool(ADVICE.search("".join(getattr(caught.value, "__notes__", [])))) is has_advice, caught.value


def test_the_text_of_what_a_command_raises_has_no_advice(tmp_path: Path) -> None:
    """What to do about a program that cannot be started, or a node, is a note, too; the command line is a fact."""
    (tmp_path / "program").touch()
    background = trioflow.CommandService(
        ["sh", "-c", "sleep 9 &"], ready=trioflow.OutputLine("ready"), terminate_grace=0.1
    )
    commands = ["no-such-program"], [tmp_path / "program"], ["true", "x" * (1 << 20)]
    jobs = *map(trioflow.CommandJob, commands), background
    Scheduler(*jobs, Job(nap, required=background)).run()
    errors: dict[Any, bool] = {job.raised_exception(): True for job in jobs}
    for said, has_advice in SSH_SAYS.items():
        found = OpenSsh().diagnose(SshNode("node"), said)
        errors[SshError(SshNode("node"), found.problem, found.advice)] = has_advice
    for error, has_advice in errors.items():
        assert not COMMAND_ADVICE.search(str(error).partition(". The command: ")[0]), error
        assert bool(COMMAND_ADVICE.search("".join(getattr(error, "__notes__", [])))) is has_advice, error
    assert {type(error) for error in errors} == {trioflow.CommandError, SshError}


def test_each_public_exception_is_looked_at() -> None:
    """Each public class of exceptions is among those that the test above raises, or has its reason not to be."""
    found = {
        name
        for name in dir(trioflow)
        if isinstance(kind := getattr(trioflow, name), type) and issubclass(kind, BaseException)
    }
    raised = {kind.__name__ for kind, _ in jobs_without_result()} | {Throttled.__name__}
    assert found == raised | OF_THE_PROGRAM | {"CommandError", "SshError", "TrioflowDeprecationWarning", "Unreachable"}
    assert not ADVICE.search(str(Throttled("api", after=2)))
