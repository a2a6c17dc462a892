"""`on_start`, `on_succeeded`, `on_settled`: when they are called, what they can see, and what comes of an error."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    CommandError,
    CommandJob,
    Job,
    JobCancelled,
    JobState,
    JobTimeout,
    Retry,
    Scheduler,
    StopReason,
)
from ...bodies import fail, nothing, raising, ran, run
from .commands import PIPE


class Told:
    """Callbacks that write down what they see."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, name: str) -> Callable[[CommandJob], None]:
        def callback(job: CommandJob) -> None:
            self.calls.append((name, job.state, self._outcome(job)))

        return callback

    def _outcome(self, job: CommandJob) -> Any:
        try:
            return job.result().returncode
        except Exception as error:
            return type(error)

    def all(self) -> dict[str, Any]:
        return {
            "on_start": self("start"),
            "on_succeeded": self("done"),
            "on_settled": self("settled"),
        }

    def outcomes(self) -> list[tuple[str, Any]]:
        return [(name, outcome) for name, _, outcome in self.calls]

    def states(self) -> list[tuple[str, str]]:
        return [(name, state.value) for name, state, _ in self.calls]


NOT_YET = ("start", __import__("trioflow").JobNotDone)


def test_all_callbacks_of_a_successful_command_are_called_in_order(
    backend: str,
) -> None:
    """`on_start`, `on_succeeded` and `on_settled` of a command are called in turn; the last two see a result."""
    told = Told()
    run(backend, CommandJob(["true"], **told.all()))
    assert told.outcomes() == [NOT_YET, ("done", 0), ("settled", 0)]


def test_callbacks_are_called_while_the_command_holds_its_slot(backend: str) -> None:
    names: list[str] = []
    jobs = [
        CommandJob(
            ["true"],
            on_start=lambda job: names.append("start"),
            on_succeeded=lambda job: names.append("done"),
            on_settled=lambda job: names.append("settled"),
        )
        for _ in range(3)
    ]
    run(backend, *jobs, jobs_window=1)
    assert names == ["start", "done", "settled"] * 3


def test_pid_is_available_from_on_start_on(backend: str) -> None:
    pids: list[int | None] = []
    job = ran(
        backend,
        CommandJob(
            "echo $$",
            shell=True,
            stdout=PIPE,
            on_start=lambda job: pids.append(job.pid),
        ),
    )
    assert pids == [int(job.result().stdout or b"")]
    assert job.pid is None


@pytest.mark.parametrize(
    ("command", "timeout", "outcomes"),
    [
        (["false"], None, [NOT_YET, ("settled", CommandError)]),
        (["sleep", 100], 0.02, [NOT_YET, ("settled", JobTimeout)]),
        (["no such program"], None, [("settled", CommandError)]),
    ],
)
def test_after_a_failure_only_on_settled_is_called(
    backend: str, command: Any, timeout: Any, outcomes: Any
) -> None:
    told = Told()
    job = ran(backend, CommandJob(command, timeout=timeout, **told.all()))
    assert told.outcomes() == outcomes
    assert job.state is JobState.FAILED


def test_on_settled_is_called_for_a_cancelled_command(backend: str) -> None:
    told = Told()
    job = CommandJob(["sleep", 100], **told.all())
    assert (
        run(backend, job, Job(fail, 0.02, critical=True)).stop_reason
        is StopReason.CRITICAL
    )
    assert told.outcomes() == [NOT_YET, ("settled", JobCancelled)]
    assert job.state is JobState.CANCELLED


def test_on_settled_is_called_once_after_the_last_attempt(backend: str) -> None:
    told = Told()
    job = ran(backend, CommandJob(["false"], retry=2, **told.all()))
    assert told.outcomes() == [NOT_YET, NOT_YET, NOT_YET, ("settled", CommandError)]
    assert (job.retry, job.attempts) == (Retry(2, first=0), 3)


@pytest.mark.parametrize(
    ("command", "options", "state"),
    [
        (["true"], {}, "succeeded"), (["false"], {}, "failed"), (["false"], {"check": False}, "succeeded"),
        (["false"], {"retry": 1}, "failed"), (["sleep", 100], {"timeout": 0.05}, "failed"),
        (["sleep", 100], {"timeout": 0.05, "on_timeout": "move_on"}, "succeeded"), (["sleep", 100], {}, "cancelled"),
    ],
)  # fmt: skip
def test_on_settled_sees_the_state_that_its_job_will_have(
    backend: str, command: Any, options: Any, state: str
) -> None:
    """The state was "running" in `on_settled` for each outcome, and a cancelled job had raised a JobCancelled."""
    told, raised = Told(), list[Any]()

    def settled(job: CommandJob) -> None:
        told("settled")(job)
        raised.append(
            (
                job.is_settled(),
                job.is_succeeded(),
                type(job.raised_exception()).__name__,
            )
        )

    job = CommandJob(
        command,
        **options,
        terminate_grace=0.1,
        on_succeeded=told("done"),
        on_settled=settled,
    )
    ending = [Job(fail, 0.3, critical=True)] * (state == "cancelled")
    run(backend, job, *ending)
    assert told.states()[-1] == ("settled", state) == ("settled", job.state.value)
    assert told.states()[:-1] == [("done", "succeeded")] * (state == "succeeded")
    assert raised == [(True, job.is_succeeded(), type(job.raised_exception()).__name__)]


@pytest.mark.parametrize("retry", [None, Retry(1, first=100)])
def test_in_its_own_on_settled_a_job_has_all_facts_of_its_end(
    backend: str, retry: Retry | None
) -> None:
    """`finished_at` was None there, so `as_settled()`, which sorts by it, raised a TypeError."""
    facts: list[Any] = []

    def settled(job: CommandJob) -> None:
        assert job.scheduler is not None
        job.scheduler.as_settled()
        facts.append(
            (
                job.state,
                job.attempts,
                job.finished_at is not None,
                job.elapsed is not None,
            )
        )

    job = CommandJob(["false"], retry=retry, on_settled=settled)
    run(backend, Job(nothing), job, Job(fail, 0.3, critical=True))
    assert facts == [(job.state, 1, True, True)]


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_job_tries_again_in_its_on_settled(
    backend: str, tmp_path: Path, is_cancelled: bool, is_nested: bool
) -> None:
    """`try_again()` said there that the job is running. Each of its two ends is told once, as it was."""
    told: list[tuple[str, str]] = []

    def started(job: CommandJob) -> None:
        if is_cancelled and job.attempts == 1:
            job.cancel()

    def settled(job: CommandJob) -> None:
        told.append(("own", job.state.value))
        if job.attempts == 1:
            (tmp_path / "mended").touch()
            job.try_again()

    line = [
        "sh",
        "-c",
        "test -e mended || exec sleep 100" if is_cancelled else "test -e mended",
    ]
    job = CommandJob(
        line, cwd=tmp_path, label="job", on_start=started, on_settled=settled
    )
    home = Scheduler(
        job,
        CommandJob(["true"], required=job, label="next"),
        on_job_settled=lambda each: told.append((each.label, each.state.value)),
    )
    scheduler = Scheduler(home) if is_nested else home
    assert scheduler.run(backend=backend)
    first = "cancelled" if is_cancelled else "failed"
    blocked = [("next", "blocked")]
    assert told == [
        ("own", first), ("job", first), *blocked, ("own", "succeeded"), ("job", "succeeded"), ("next", "succeeded"),
    ]  # fmt: skip


def test_scheduler_try_again_in_an_own_on_settled_means_that_job_too(
    backend: str, tmp_path: Path
) -> None:
    def settled(job: CommandJob) -> None:
        if job.is_done() and not job.is_succeeded():
            (tmp_path / "mended").touch()
            assert job.scheduler is not None
            job.scheduler.try_again()

    job = CommandJob(["test", "-e", "mended"], cwd=tmp_path, on_settled=settled)
    assert Scheduler(job).run(backend=backend)
    assert job.attempts == 2


def test_a_critical_job_cannot_be_tried_again_in_its_own_on_settled(
    backend: str,
) -> None:
    errors: list[str] = []

    def settled(job: CommandJob) -> None:
        with pytest.raises(RuntimeError) as caught:
            job.try_again()
        errors.append(str(caught.value))

    run(
        backend,
        CommandJob(["false"], label="deploy", critical=True, on_settled=settled),
    )
    assert errors == [
        "try_again() of 'deploy': it is critical, so its failure is about to stop the run"
    ]


def test_on_done_is_called_after_a_timeout_with_move_on(backend: str) -> None:
    seen: list[Any] = []
    job = CommandJob(
        ["sleep", 100],
        timeout=0.02,
        on_timeout="move_on",
        on_succeeded=lambda job: seen.append(job.result()),
    )
    run(backend, job)
    assert seen == [None]


@pytest.mark.parametrize("name", ["on_start", "on_succeeded", "on_settled", "on_line"])
def test_an_async_callback_raises(name: str) -> None:
    async def tell(job: Any, line: str = "") -> None: ...

    with pytest.raises(
        TypeError, match=f"{name}=.*'true': it is async, and would not be awaited"
    ):
        CommandJob(["true"], label="true", **{name: tell})


@pytest.mark.parametrize("name", ["on_start", "on_succeeded", "on_settled"])
def test_a_callback_that_raises_fails_the_job(backend: str, name: str) -> None:
    job = CommandJob(["sleep", 0.02], **{name: raising(LookupError(name))})
    other = CommandJob(["true"])
    scheduler = run(backend, job, other)
    with pytest.raises(LookupError, match=name):
        job.result()
    assert other.state is JobState.SUCCEEDED
    assert scheduler.stop_reason is StopReason.FAILED


def test_on_settled_sees_the_exception_of_on_succeeded(backend: str) -> None:
    told = Told()
    run(
        backend,
        CommandJob(
            ["true"],
            on_succeeded=raising(LookupError("broken")),
            on_settled=told("settled"),
        ),
    )
    assert told.outcomes() == [("settled", LookupError)]


@pytest.mark.parametrize("name", ["on_succeeded", "on_settled"])
@pytest.mark.parametrize("command", ["true", "false"])
def test_what_a_callback_raises_is_final(backend: str, command: str, name: str) -> None:
    """A command runs once, although `retry` would accept what its callback raised: a deploy is not made twice."""
    calls: list[Any] = []

    def broken(job: CommandJob) -> None:
        calls.append(job)
        raise LookupError("broken")

    callbacks: dict[str, Any] = {name: broken}
    job = ran(
        backend,
        CommandJob([command], retry=Retry(2, first=0, on=LookupError), **callbacks),
    )
    assert job.attempts == 1
    assert calls == ([] if (command, name) == ("false", "on_succeeded") else [job])
    assert isinstance(job.raised_exception(), LookupError if calls else CommandError)


def test_a_callback_may_add_jobs(backend: str) -> None:
    added = CommandJob(["true"])

    def add(job: CommandJob) -> None:
        assert job.scheduler is not None
        job.scheduler.add(added)

    assert Scheduler(CommandJob(["true"], on_succeeded=add)).run(backend=backend)
    assert added.state is JobState.SUCCEEDED


def test_on_done_can_read_the_captured_output(backend: str) -> None:
    seen: list[bytes | None] = []
    run(
        backend,
        CommandJob(
            ["echo", "a"],
            stdout=subprocess.PIPE,
            on_succeeded=lambda job: seen.append(job.result().stdout),
        ),
    )
    assert seen == [b"a\n"]
